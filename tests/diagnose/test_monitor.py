from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from torch import nn

from steepest.diagnose import Monitor
from steepest.errors import InvalidArgument


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(2, (8,), generator=generator)


def run(model: nn.Module, monitor: Monitor | None, steps: int = 6) -> dict[str, list]:
    """Train, and work out by hand what a monitor should have seen."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    seen: dict[str, list] = {"loss": [], "norms": [], "mean": []}
    for step in range(steps):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if monitor is not None:
            monitor.record(step, loss)
        norms = {name: math.sqrt(float((p.grad.double() ** 2).sum())) for name, p in model.named_parameters()}
        seen["loss"].append(float(loss.detach()))
        seen["norms"].append(norms)
        seen["mean"].append(sum(norms.values()) / len(norms))
        optimizer.step()
    return seen


def test_it_records_the_loss_each_gradient_norm_and_their_mean_at_every_step():
    model = network()
    with Monitor(model) as monitor:
        seen = run(model, monitor)
        history = monitor.history
    assert history["step"] == list(range(6))
    assert history["loss"] == seen["loss"]
    assert history["mean_gradient_norm"] == pytest.approx(seen["mean"], rel=1e-6)
    assert list(history["gradient_norm"]) == [name for name, _ in model.named_parameters()]
    for name, norms in history["gradient_norm"].items():
        assert norms == pytest.approx([row[name] for row in seen["norms"]], rel=1e-6)


def test_training_with_and_without_it_is_the_same_bit_for_bit(rng_untouched):
    watched, alone = network(), network()
    with rng_untouched(), Monitor(watched) as monitor:
        run(watched, monitor)
    run(alone, None)
    for p, q in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize(("every", "steps"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (4, [0, 4]), (10, [0])])
def test_with_every_k_it_keeps_each_kth_step_from_the_first_on(every, steps):
    model = network()
    with Monitor(model, every=every) as monitor:
        seen = run(model, monitor)
    history = monitor.history
    assert history["step"] == steps
    assert [step for step in range(6) if monitor.due(step)] == steps
    assert history["loss"] == [seen["loss"][step] for step in steps]
    assert history["mean_gradient_norm"] == pytest.approx([seen["mean"][step] for step in steps], rel=1e-6)
    assert all(len(norms) == len(steps) for norms in history["gradient_norm"].values())


def test_a_parameter_without_gradient_is_nan_and_stays_out_of_the_mean():
    model = network()
    model[0].weight.requires_grad_(False)
    with Monitor(model) as monitor:
        loss = model(batch(0)[0]).square().sum()
        loss.backward()
        monitor.record(0, loss)
    norms = monitor.history["gradient_norm"]
    assert math.isnan(norms["0.weight"][0])
    held = [float(p.grad.norm()) for p in model.parameters() if p.grad is not None]
    assert len(held) == 3
    assert monitor.history["mean_gradient_norm"] == pytest.approx([sum(held) / 3], rel=1e-6)


def test_a_step_without_any_gradient_is_nan_throughout():
    model = network()
    with Monitor(model) as monitor:
        monitor.record(0, torch.tensor(1.5))
    history = monitor.history
    assert history["loss"] == [1.5]
    assert math.isnan(history["mean_gradient_norm"][0])
    assert all(math.isnan(norms[0]) for norms in history["gradient_norm"].values())


def test_a_gradient_of_zero_is_zero_and_not_missing():
    model = network()
    with Monitor(model) as monitor:
        loss = (0 * model(batch(0)[0])).sum()
        loss.backward()
        monitor.record(0, loss)
    assert monitor.history["mean_gradient_norm"] == [0.0]
    assert set(map(tuple, monitor.history["gradient_norm"].values())) == {(0.0,)}


def test_a_loss_or_gradient_that_is_not_finite_is_recorded_as_it_is():
    model = network()
    with Monitor(model) as monitor:
        loss = model(batch(0)[0]).sum() * math.inf
        loss.backward()
        monitor.record(0, loss)
    assert not math.isfinite(monitor.history["loss"][0])
    assert not math.isfinite(monitor.history["mean_gradient_norm"][0])


def test_the_history_can_be_read_after_the_block_when_the_model_is_let_go():
    model = network()
    with Monitor(model) as monitor:
        run(model, monitor)
        during = monitor.history
    assert monitor.history == during
    assert list(monitor.history["gradient_norm"]) == [name for name, _ in model.named_parameters()]


def test_after_the_block_it_holds_no_model_alive():
    model = network()
    with Monitor(model) as monitor:
        run(model, monitor)
    weight = weakref.ref(model[0].weight)
    del model
    gc.collect()
    assert weight() is None
    assert monitor.history["step"] == list(range(6))


def test_the_history_is_a_copy_and_a_new_one_at_each_reading():
    model = network()
    with Monitor(model) as monitor:
        run(model, monitor)
    monitor.history["step"].clear()
    assert monitor.history["step"] == list(range(6))


def test_before_the_first_step_the_history_is_empty():
    history = Monitor(network()).history
    assert history["step"] == history["loss"] == history["mean_gradient_norm"] == []
    assert set(map(tuple, history["gradient_norm"].values())) == {()}


def test_an_exception_in_the_block_passes_through():
    with pytest.raises(ZeroDivisionError), Monitor(network()):
        raise ZeroDivisionError


def test_double_precision_models_are_recorded():
    model = network().double()
    with Monitor(model) as monitor:
        loss = model(batch(0)[0].double()).square().sum()
        loss.backward()
        monitor.record(0, loss)
    expected = [float(p.grad.norm()) for p in model.parameters()]
    assert [norms[0] for norms in monitor.history["gradient_norm"].values()] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("every", [0, -1])
def test_recording_less_than_each_step_is_refused(every):
    with pytest.raises(InvalidArgument, match=rf"every must be at least 1 \(got {every}\). Pass 1 to record each step"):
        Monitor(network(), every=every)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(InvalidArgument, match=r"a model to watch has parameters \(got 'ReLU'\). Pass a module"):
        Monitor(nn.ReLU())
