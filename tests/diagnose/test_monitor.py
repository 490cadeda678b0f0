from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from torch import nn

from steepest.diagnose import Monitor


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
        during = repr(monitor.history)
    assert repr(monitor.history) == during
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


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def train(model: nn.Module, monitor: Monitor, optimizer: torch.optim.Optimizer, steps: range = range(6)) -> list[dict]:
    """Train and record after each step; the weights and gradients as they were, before and after."""
    seen = []
    for step in steps:
        x = batch(step)[0]
        y = (x.sum(dim=1) > 0).long()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
        optimizer.step()
        monitor.record(step, loss, target=y)
        after = {name: p.detach().double().clone() for name, p in model.named_parameters()}
        seen.append({"before": before, "after": after})
    return seen


def ratio(row: dict, name: str) -> float:
    return float((row["after"][name] - row["before"][name]).norm() / row["before"][name].norm())


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_weight_norms_and_updates_of_small_parameters_are_exact(with_optimizer):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with Monitor(model, optimizer if with_optimizer else None) as monitor:
        seen = train(model, monitor, optimizer)
    for name, _ in model.named_parameters():
        norms = [float(row["after"][name].norm()) for row in seen]
        assert monitor.history["weight_norm"][name] == pytest.approx(norms, rel=1e-6)
        assert monitor.history["update_ratio"][name] == pytest.approx([ratio(row, name) for row in seen], rel=1e-4)


@pytest.mark.parametrize(
    "width", [19, 33, 128, *(pytest.param(n, marks=pytest.mark.slow) for n in (31, 32, 64, 127, 300))]
)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_updates_of_large_parameters_are_known_within_fifteen_percent(kind, width):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 2))
    optimizer = kind(model.parameters(), lr=0.01)
    with Monitor(model) as monitor:
        seen = train(model, monitor, optimizer)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            wanted = [ratio(row, name) for row in seen]
            assert monitor.history["update_ratio"][name] == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("rows", [40, 60, 100, 5000])
def test_an_update_of_few_rows_is_an_update(rows):
    # What is sampled must not leave out a stretch of the parameter.
    model = nn.Sequential(nn.Embedding(rows, 12), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            loss = model(torch.arange(rows - 15, rows)).square().mean()
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert all(update > 0 for update in monitor.history["update_ratio"]["0.weight"])


def test_an_update_of_a_weight_that_was_zero_is_nan():
    model = network()
    nn.init.zeros_(model[2].bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer)
    first, *others = monitor.history["update_ratio"]["2.bias"]
    assert math.isnan(first)
    assert all(other > 0 for other in others)


def by_hand(values: torch.Tensor) -> dict[str, float]:
    """Statistics of an activation of examples x units, all of it."""
    values = values.double()
    mean, square = values.mean(), values.square().mean()
    over_examples = (values - values.mean(dim=0)).square().mean()
    columns = values.T
    alive = columns.var(dim=1) > 0
    equal = [
        bool(alive[i]) and any(i != j and torch.equal(columns[i], columns[j]) for j in range(len(columns)))
        for i in range(len(columns))
    ]
    return {
        "mean": float(mean),
        "spread": float(values.std(correction=0)),
        "zeros": float((values == 0).double().mean()),
        "positive": float((values > 0).double().mean()),
        "dead": float((values == 0).all(dim=0).double().mean()),
        "variation": float((over_examples / square).sqrt()) if square > 0 else 0.0,
        "similarity": sum(equal) / len(equal),
    }


@pytest.mark.parametrize("make", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
def test_the_statistics_of_each_layer_are_those_worked_out_by_hand(make):
    model = network()
    model[1] = make()
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]  # two units that are copies
        model[0].bias[1] = model[0].bias[0]
        model[0].bias[2] = -100.0  # one that is dead, or at the end of its range
    with Monitor(model) as monitor:
        x, _ = batch(0)
        loss = model(x).square().mean()
        loss.backward()
        monitor.record(0, loss)
    hidden = model[0](x).detach()
    wanted = {"input of 0": x, "0": hidden, "1": model[1](hidden), "2": model(x).detach(), "output": model(x).detach()}
    history = monitor.history["activations"]
    assert list(history) == list(wanted)
    for site, values in wanted.items():
        for name, value in by_hand(values.detach()).items():
            assert history[site][name] == [pytest.approx(value, abs=1e-5)], (site, name)
    ends = {nn.Tanh: (-1, 1), nn.Sigmoid: (0, 1)}.get(make)
    saturated = history["1"]["saturated"][0]
    if ends is None:
        assert math.isnan(saturated)
    else:
        near, values = 0.01 * (ends[1] - ends[0]) / 2, wanted["1"].detach()
        share = ((values < ends[0] + near) | (values > ends[1] - near)).double().mean()
        assert saturated == pytest.approx(float(share), abs=1e-5)


def test_the_statistics_of_one_record_do_not_depend_on_the_others():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hand = []
    with Monitor(model) as monitor:
        for step in range(40):
            with torch.no_grad():
                hand.append(by_hand(torch.relu(model[0](batch(step)[0]))))
            train(model, monitor, optimizer, range(step, step + 1))
    found = monitor.history["activations"]["1"]
    for name in ("mean", "spread", "zeros", "positive", "dead", "variation"):
        assert found[name] == pytest.approx([row[name] for row in hand], abs=1e-5), name


def test_activations_called_as_functions_are_seen_as_inputs_of_the_layers_behind_them():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.two(torch.relu(self.one(x)))

    model = Net()
    with Monitor(model) as monitor:
        x, _ = batch(0)
        model(x).square().mean().backward()
        monitor.record(0)
    found = monitor.history["activations"]
    assert list(found) == ["input of one", "one", "input of two", "two", "output"]
    hidden = by_hand(torch.relu(model.one(x)).detach())
    assert found["input of two"]["zeros"] == [pytest.approx(hidden["zeros"])]
    assert found["input of two"]["dead"] == [pytest.approx(hidden["dead"])]


def test_convolutions_have_channels_as_units():
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        model[0].bias[:] = torch.tensor([-100.0, 100.0, 100.0])
    with Monitor(model) as monitor:
        model(torch.randn(5, 1, 6, 6)).mean().backward()
        monitor.record(0)
    assert monitor.history["activations"]["1"]["dead"] == [pytest.approx(1 / 3)]
    assert monitor.history["activations"]["1"]["positive"] == [pytest.approx(2 / 3)]


def test_every_list_of_the_history_has_one_entry_a_recorded_step():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, every=3) as monitor:
        train(model, monitor, optimizer, range(70))
    history = monitor.history
    flat = [*(history[name] for name in ("step", "loss", "learning_rate", "mean_gradient_norm"))]
    for group in ("gradient_norm", "weight_norm", "update_ratio", *history["activations"]):
        flat.extend((history.get(group) or history["activations"].get(group)).values())
    assert {len(values) for values in flat} == {24}
    assert all(isinstance(value, float) for values in flat[1:] for value in values)


def test_without_a_call_of_record_each_step_of_the_optimizer_is_one():
    model, told = network(), network()
    optimizer, other = (torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (model, told))
    with Monitor(told, other) as wanted:
        train(told, wanted, other)
    with Monitor(model, optimizer) as monitor:
        for step in range(6):
            x = batch(step)[0]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), (x.sum(dim=1) > 0).long()).backward()
            optimizer.step()
    history = monitor.history
    assert history["step"] == list(range(6))
    assert all(map(math.isnan, history["loss"]))
    for name in ("mean_gradient_norm", "gradient_norm", "weight_norm", "update_ratio", "learning_rate", "activations"):
        assert repr(history[name]) == repr(wanted.history[name]), name
    assert monitor.diagnosis().cause == "healthy"


def test_a_step_that_is_not_yet_recorded_is_in_the_history_when_the_block_ends():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(2))
        model(batch(0)[0]).square().mean().backward()
        optimizer.step()
    assert monitor.history["step"] == [0, 1, 2]
    assert [math.isnan(loss) for loss in monitor.history["loss"]] == [False, False, True]


def test_the_step_hook_sees_gradients_that_are_cleared_before_the_call_of_record():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        for step in range(3):
            x, y = batch(step)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            norm = float(model[0].weight.grad.norm())
            optimizer.step()
            optimizer.zero_grad()
            monitor.record(step, loss)
            assert monitor.history["gradient_norm"]["0.weight"][-1] == pytest.approx(norm, rel=1e-6)
    assert monitor.history["step"] == [0, 1, 2]
    assert monitor.history["loss"][2] == float(loss.detach())


@pytest.mark.parametrize("first", [1, 7])
def test_steps_may_start_where_they_like_and_the_first_is_always_kept(first):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, every=5) as monitor:
        seen = train(model, monitor, optimizer, range(first, 22))
    steps = sorted({first, *(step for step in range(first, 22) if step % 5 == 0)})
    assert monitor.history["step"] == steps
    wanted = [ratio(seen[step - first], "0.weight") for step in steps]
    assert monitor.history["update_ratio"]["0.weight"] == pytest.approx(wanted, rel=1e-4)
    assert not any(map(math.isnan, monitor.history["activations"]["1"]["mean"]))


def test_steps_may_go_on_after_a_gap():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(3))
        train(model, monitor, optimizer, range(100, 103))
    assert monitor.history["step"] == [0, 1, 2, 100, 101, 102]


def test_recording_only_now_and_then_sees_what_was_between_as_steps_without_loss():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        for step in range(10):
            x, y = batch(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            if step % 5 == 4:
                monitor.record(step, loss)
    assert monitor.history["step"] == list(range(10))
    assert [math.isnan(loss) for loss in monitor.history["loss"]] == [step % 5 != 4 for step in range(10)]


def test_with_every_k_the_hooks_are_off_between_the_steps_that_are_kept():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    on = []
    with Monitor(model, optimizer, every=3) as monitor:
        for step in range(7):
            on.append(hooks(model) > 0)
            train(model, monitor, optimizer, range(step, step + 1))
    assert on == [True, False, False, True, False, False, True]


def test_gradients_may_be_given_by_name_or_in_order():
    model = network()
    given = {name: torch.full_like(p, 2.0) for name, p in model.named_parameters()}
    wanted = [2 * math.sqrt(p.numel()) for p in model.parameters()]
    with Monitor(model) as monitor:
        monitor.record(0, 1.0, gradient=given)
        monitor.record(1, 1.0, gradient=list(given.values()))
        monitor.record(2, 1.0, gradient={"2.bias": given["2.bias"]})
        monitor.record(3, 1.0, gradient=[None, None, None, given["2.bias"]])
    norms = list(monitor.history["gradient_norm"].values())
    for norm, value in zip(norms, wanted, strict=True):
        assert norm[:2] == pytest.approx([value, value], rel=1e-6)
    for t in (2, 3):
        assert [math.isnan(norm[t]) for norm in norms] == [True, True, True, False]
        assert norms[3][t] == pytest.approx(wanted[3], rel=1e-6)


def test_gradients_that_are_given_count_also_where_the_optimizer_was_seen():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        model(batch(0)[0]).square().mean().backward()
        optimizer.step()
        monitor.record(0, 1.0, gradient=[torch.ones_like(p) for p in model.parameters()])
    wanted = [math.sqrt(p.numel()) for p in model.parameters()]
    assert [norms[0] for norms in monitor.history["gradient_norm"].values()] == pytest.approx(wanted, rel=1e-6)


def test_the_learning_rate_is_the_largest_of_the_groups_and_follows_a_schedule():
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.4}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with Monitor(model, optimizer) as monitor:
        for step in range(3):
            train(model, monitor, optimizer, range(step, step + 1))
            schedule.step()
    assert monitor.history["learning_rate"] == pytest.approx([0.4, 0.2, 0.1])


def test_a_learning_rate_that_is_a_tensor_is_copied_when_it_is_recorded():
    model = network()
    rate = torch.tensor(0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with Monitor(model, optimizer) as monitor:
        for step in range(3):
            train(model, monitor, optimizer, range(step, step + 1))
            rate.mul_(0.5)
    assert monitor.history["learning_rate"] == pytest.approx([0.1, 0.05, 0.025])


def test_without_an_optimizer_the_learning_rate_is_nan():
    model = network()
    with Monitor(model) as monitor:
        run(model, monitor, 2)
    assert all(map(math.isnan, monitor.history["learning_rate"]))


@pytest.mark.parametrize("loss", [1.5, 2, torch.tensor(1.5), torch.tensor([1.5]), torch.tensor(1.5).double()], ids=repr)
def test_a_loss_may_be_a_number_or_a_tensor_with_one_entry(loss):
    with Monitor(network()) as monitor:
        monitor.record(0, loss)
    assert monitor.history["loss"] == [float(loss)]


def test_a_loss_tensor_that_is_changed_afterwards_is_recorded_as_it_was():
    # As when it is summed over processes, or when a CUDA graph writes every loss to one place.
    model = network()
    loss = torch.tensor(1.0)
    with Monitor(model) as monitor:
        for step in range(3):
            monitor.record(step, loss)
            loss.mul_(2)
    assert monitor.history["loss"] == [1.0, 2.0, 4.0]


def test_a_diagnosis_can_be_had_inside_the_block_and_after_it_and_is_the_same():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        assert monitor.diagnosis().cause == "undetermined"
        for step in range(5):
            train(model, monitor, optimizer, range(step, step + 1))
            assert monitor.diagnosis().cause == "healthy"
        inside = monitor.diagnosis()
    assert monitor.diagnosis() == inside
    assert inside.cause == "healthy"


def test_asking_for_a_diagnosis_at_every_step_changes_neither_the_training_nor_what_is_recorded():
    asked, alone = network(), network()
    histories = []
    for model, ask in ((asked, True), (alone, False)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        with Monitor(model, optimizer) as monitor:
            for step in range(40):
                train(model, monitor, optimizer, range(step, step + 1))
                if ask:
                    assert monitor.diagnosis().cause == "healthy"
                    assert len(monitor.history["step"]) == step + 1
        history = monitor.history
        for found in history["activations"].values():
            found.pop("similarity")  # of every eighth record, and of the last at each reading
        histories.append(history)
    assert all(torch.equal(p, q) for p, q in zip(asked.parameters(), alone.parameters(), strict=True))
    assert repr(histories[0]) == repr(histories[1])


def test_two_monitors_may_watch_one_model():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as one, Monitor(model) as two:
        for step in range(4):
            x, y = batch(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            one.record(step, loss)
            two.record(step, loss)
    assert repr(one.history["activations"]) == repr(two.history["activations"])
    assert one.history["update_ratio"] == two.history["update_ratio"]


def test_a_model_that_is_one_layer_is_recorded():
    model = nn.Linear(4, 2)
    with Monitor(model) as monitor:
        model(batch(0)[0]).square().mean().backward()
        monitor.record(0)
    assert list(monitor.history["gradient_norm"]) == ["weight", "bias"]
    assert "output" in monitor.history["activations"]
