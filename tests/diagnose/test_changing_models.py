"""Models that are another thing half way: layers frozen and unfrozen, added, replaced and taken away."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steepest.diagnose import Monitor


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def perceptron() -> nn.Sequential:
    return seeded(lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)))


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


def train(
    model: nn.Module,
    monitor: Monitor,
    optimizers: list[torch.optim.Optimizer],
    change: Callable[[int], None],
    steps: int = 40,
) -> None:
    x, y = batch()
    for step in range(steps):
        change(step)
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        monitor.record(step, loss, target=y)


def watched(model: nn.Module, kept: list[nn.Module], change: Callable[[int, list], None], **options) -> Monitor:
    """A run with AdamW over some parts of a model, in which something is changed before a step."""
    optimizers = [torch.optim.AdamW([p for part in kept for p in part.parameters()], 1e-2)]
    with Monitor(model, optimizers[0], **options) as monitor:
        train(model, monitor, optimizers, lambda step: change(step, optimizers))
    return monitor


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("declared", [(), ("0",)], ids=str)
def test_a_layer_that_is_unfrozen_and_given_to_the_optimizer_is_connected(declared, every):
    model = perceptron()
    model[0].requires_grad_(False)

    def unfreeze(step: int, optimizers: list) -> None:
        if step == 10:
            model[0].requires_grad_(True)
            optimizers[0].add_param_group({"params": list(model[0].parameters())})

    monitor = watched(model, [model[2], model[4]], unfreeze, frozen=declared, every=every)
    assert monitor.diagnosis().cause == "healthy", monitor.diagnosis()
    assert next(p for p in monitor._result.parameters if p.name == "0.weight").frozen is False


def test_layers_that_are_unfrozen_one_after_the_other_are_connected():
    model = perceptron()
    model[:4].requires_grad_(False)

    def unfreeze(step: int, _: list) -> None:
        for when, layer in ((8, 2), (16, 0)):
            if step == when:
                model[layer].requires_grad_(True)

    assert watched(model, [model], unfreeze).diagnosis().cause == "healthy"


def test_a_layer_that_is_unfrozen_for_a_second_optimizer_that_nobody_knows_is_connected():
    model = perceptron()
    model[0].requires_grad_(False)

    def unfreeze(step: int, optimizers: list) -> None:
        if step == 10:
            model[0].requires_grad_(True)
            optimizers.append(torch.optim.SGD(model[0].parameters(), 0.1))

    assert watched(model, [model[2], model[4]], unfreeze).diagnosis().cause == "healthy"


def test_a_layer_that_is_unfrozen_and_forgotten_is_named():
    model = perceptron()
    model[0].requires_grad_(False)

    def unfreeze(step: int, _: list) -> None:
        if step == 10:
            model[0].requires_grad_(True)

    found = watched(model, [model[2], model[4]], unfreeze).diagnosis()
    assert found.cause == "disconnected_parameters"
    assert found.evidence == ("0.weight, 0.bias: not in the optimizer (2 of 6 parameters)",)


def test_a_layer_that_is_frozen_from_the_first_step_on_is_named_though_it_was_not_before():
    model = perceptron()

    def freeze(step: int, _: list) -> None:
        if step == 0:
            model[0].requires_grad_(False)

    found = watched(model, [model], freeze).diagnosis()
    assert found.evidence == ("0.weight, 0.bias: requires_grad is False (2 of 6 parameters)",)


def test_a_layer_that_is_frozen_half_way_is_no_fault_and_no_small_step():
    model = perceptron()

    def freeze(step: int, _: list) -> None:
        if step == 10:
            model[:3].requires_grad_(False)

    assert watched(model, [model], freeze).diagnosis().cause == "healthy"


@pytest.mark.parametrize("where", [2, 5], ids=["in the middle", "at the end"])
def test_a_layer_that_is_added_later_is_recorded_from_then_on_where_it_is_run(where):
    model = perceptron()
    width = 32 if where == 2 else 2

    def grow(step: int, optimizers: list) -> None:
        if step == 10:
            added = seeded(lambda: nn.Linear(width, width), 1)
            model.insert(where, added)
            optimizers[0].add_param_group({"params": list(added.parameters())})

    monitor = watched(model, [model], grow)
    assert monitor.diagnosis().cause == "healthy", monitor.diagnosis()
    norms = monitor.history["gradient_norm"]["5.weight"]  # the names of those behind move up
    assert [math.isnan(norm) for norm in norms] == [True] * 10 + [False] * 30
    assert all(math.isnan(weight) for weight in monitor.history["weight_norm"]["5.weight"][:10])
    last = list(monitor.history["activations"])[-1]
    assert last == "output"
    assert not any(map(math.isnan, monitor.history["activations"]["5"]["mean"][10:]))
    assert monitor._result.heads == {"5"}


def test_a_layer_that_is_added_and_forgotten_is_named():
    model = perceptron()

    def grow(step: int, _: list) -> None:
        if step == 10:
            model.append(seeded(lambda: nn.Linear(2, 2), 1))

    found = watched(model, [model], grow).diagnosis()
    assert found.parameters == ("5.weight", "5.bias")
    assert "not in the optimizer (2 of 8 parameters)" in found.evidence[0]


@pytest.mark.parametrize("how", ["layer", "parameter"])
def test_a_head_that_is_replaced_is_followed_and_the_replacement_is_no_step(how):
    model = perceptron()

    def replace(step: int, optimizers: list) -> None:
        if step == 10:
            fresh = seeded(lambda: nn.Linear(16, 2), 1)
            if how == "layer":
                model[4] = fresh
            else:
                model[4].weight, model[4].bias = fresh.weight, fresh.bias
            optimizers[0].add_param_group({"params": list(model[4].parameters())})

    monitor = watched(model, [model], replace)
    assert monitor.diagnosis().cause == "healthy", monitor.diagnosis()
    assert monitor.history["weight_norm"]["4.weight"][-1] == pytest.approx(float(model[4].weight.detach().norm()))
    updates = monitor.history["update_ratio"]["4.weight"]
    assert 0 < updates[10] < 0.2
    assert not any(map(math.isnan, monitor.history["activations"]["4"]["mean"]))


def test_a_head_that_is_replaced_and_not_trained_is_named():
    model = perceptron()

    def replace(step: int, _: list) -> None:
        if step == 0:
            model[4] = seeded(lambda: nn.Linear(16, 2), 1)

    found = watched(model, [model], replace).diagnosis()
    assert found.parameters == ("4.weight", "4.bias")
    assert "not in the optimizer" in found.evidence[0]


def test_a_layer_that_is_taken_away_is_no_fault():
    model = nn.Sequential(*perceptron(), seeded(lambda: nn.Linear(2, 2), 1))

    def cut(step: int, _: list) -> None:
        if step == 10:
            del model[5]

    monitor = watched(model, [model], cut)
    assert monitor.diagnosis().cause == "healthy", monitor.diagnosis()
    assert all(map(math.isnan, monitor.history["gradient_norm"]["5.weight"][10:]))


def test_displacement_begins_anew_where_a_parameter_was_replaced():
    model = perceptron()

    def replace(step: int, optimizers: list) -> None:
        if step == 10:
            model[4] = seeded(lambda: nn.Linear(16, 2), 1)
            optimizers[0].param_groups[0]["lr"] = 0.0

    monitor = watched(model, [model], replace)
    rows = monitor._result.rows
    names = [p.name for p in monitor._result.parameters]
    assert rows.displacement[names.index("4.weight")] == 0
    assert rows.displacement[names.index("0.weight")] > 0.01


def test_a_first_batch_of_another_kind_names_no_dead_units():
    model = perceptron()
    with torch.no_grad():
        model[0].bias.fill_(-1.0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    x, y = batch()
    with Monitor(model, optimizer) as monitor:
        for step in range(40):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(0 * x if step == 0 else 3 * x), y)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss, target=y)
    assert monitor.history["activations"]["1"]["dead"][0] == 1
    assert monitor.diagnosis().cause == "healthy", monitor.diagnosis()


def test_a_frozen_base_with_one_weight_from_zero_is_healthy():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.scale = perceptron().requires_grad_(False), nn.Linear(2, 2, bias=False)
            nn.init.zeros_(self.scale.weight)

        def forward(self, x):
            return self.scale(self.base(x))

    model = Adapted()
    assert watched(model, [model.scale], lambda *_: None, frozen=["base"]).diagnosis().cause == "healthy"


@pytest.mark.parametrize("declared", [(), ("average",)])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_an_average_of_other_weights_that_is_kept_in_the_model_is_healthy(requires_grad, declared):
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online = perceptron()
            self.average = perceptron().requires_grad_(requires_grad)

        def forward(self, x: Tensor) -> Tensor:
            return self.online(x)

    model = Network()

    def follow(*_: object) -> None:
        with torch.no_grad():
            for mean, weight in zip(model.average.parameters(), model.online.parameters(), strict=True):
                mean.lerp_(weight, 0.1)

    assert watched(model, [model.online], follow, frozen=declared).diagnosis().cause == "healthy"
    assert watched(model, [model.online], lambda *_: None).diagnosis().cause == "disconnected_parameters"
