"""What training loops do with an optimizer: closures, schedules, loss scaling, hooks, groups that come later."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from steepest.norms import L2, Blockwise, LInf, Spectral
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent, route

PRESETS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "L2": lambda net: SteepestDescent(net.parameters(), L2(), 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "L2 plain": lambda net: SteepestDescent(net.parameters(), L2(), 0.1),
    "Blockwise": lambda net: SteepestDescent(
        net.named_parameters(), Blockwise({name: to.norm for name, to in route(net).items()}), 1e-3
    ),
    "SignDescent": lambda net: SignDescent(net.parameters(), 0.001, mode="constrained", momentum=0.9),
    "SignDescent plain": lambda net: SignDescent(net.parameters(), 0.001, mode="constrained"),
    "Muon": lambda net: Muon(route(net).param_groups(0.01), 0.01),
    "Scion": lambda net: Scion(net, 0.01),
    "Scion uphill": lambda net: Scion(net, 0.01, maximize=True, nesterov=True),
    "EpochAdam": lambda net: EpochAdam(net.parameters(), 0.01, steps_per_epoch=2),
}
EVERY_PRESET = pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def loss_of(net: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(net(torch.arange(5)), torch.tensor([0, 1, 2, 0, 1]))


def values(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


@EVERY_PRESET
def test_no_preset_changes_a_gradient_by_a_bit(make):
    net = network()
    optimizer = make(net)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(net).backward()
        held = {name: p.grad for name, p in net.named_parameters()}
        copies = {name: g.clone() for name, g in held.items()}
        optimizer.step()
        for name, p in net.named_parameters():
            assert p.grad is held[name]
            assert torch.equal(p.grad, copies[name])


@EVERY_PRESET
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_closure_clears_computes_and_returns_its_loss(make, set_to_none):
    with_closure, without = network(), network()
    ours, theirs = make(with_closure), make(without)

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        ours.zero_grad(set_to_none=set_to_none)
        loss = loss_of(with_closure)
        loss.backward()
        return loss

    for _ in range(3):
        expected = loss_of(without)
        theirs.zero_grad(set_to_none=set_to_none)
        expected.backward()
        theirs.step()
        assert torch.equal(ours.step(closure), expected)
    torch.testing.assert_close(values(with_closure), values(without), rtol=0, atol=0)


@pytest.mark.parametrize("number", [float, lambda x: torch.tensor(x, dtype=torch.float64)], ids=["float", "tensor"])
@EVERY_PRESET
def test_a_schedule_sets_the_step_of_every_group(make, number):
    factors, net, alone = (1.0, 0.5, 0.25), network(), network()
    optimizer, reference = make(net), make(alone)
    for group in optimizer.param_groups:
        group["lr"] = number(group["lr"])
    rates = [group["lr"] for group in reference.param_groups]
    scheduler = LambdaLR(optimizer, lambda step: factors[min(step, 2)])
    for factor in factors:
        for group, rate in zip(reference.param_groups, rates, strict=True):
            group["lr"] = factor * rate
        for model, one in ((net, optimizer), (alone, reference)):
            one.zero_grad()
            loss_of(model).backward()
            one.step()
        scheduler.step()
    torch.testing.assert_close(values(net), values(alone), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cycle_momentum", [True, False])
def test_one_cycle_moves_the_rate_and_if_asked_the_momentum(cycle_momentum):
    w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = SteepestDescent([w], L2(), 0.1, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.5, total_steps=6, cycle_momentum=cycle_momentum)
    value = buffer = torch.zeros(2, dtype=torch.float64)
    rates, momenta = [], []
    for step in range(5):
        (group,) = optimizer.param_groups
        rates.append(group["lr"])
        momenta.append(group["momentum"])
        w.grad = torch.tensor([1.0, -2.0 + step], dtype=torch.float64)
        buffer = momenta[-1] * buffer + w.grad
        value = value - rates[-1] * buffer
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(w.data, value)
    assert max(rates) == pytest.approx(0.5, rel=0.1)
    assert rates[0] < rates[1]
    assert (len(set(momenta)) > 1) is cycle_momentum


def test_without_momentum_one_cycle_can_leave_it_out():
    w = nn.Parameter(torch.zeros(2))
    optimizer = SteepestDescent([w], L2(), 0.1)
    OneCycleLR(optimizer, max_lr=0.5, total_steps=6, cycle_momentum=False)
    w.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(w.data, torch.full((2,), -0.5 / 25))


def test_a_plateau_lowers_the_rate_of_every_group():
    optimizer = Scion(network(), 0.1)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    scheduler.step(1.0)
    scheduler.step(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5 * rate for rate in rates]


def scaled_step(net: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    optimizer.zero_grad()
    scaler.scale(loss_of(net)).backward()
    scaler.step(optimizer)
    scaler.update()


@EVERY_PRESET
def test_a_grad_scaler_scales_by_a_power_of_two_and_leaves_every_step_as_it_was(make):
    scaled, plain = network(), network()
    ours, theirs = make(scaled), make(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for _ in range(3):
        scaled_step(scaled, ours, scaler)
        theirs.zero_grad()
        loss_of(plain).backward()
        theirs.step()
    torch.testing.assert_close(values(scaled), values(plain), rtol=1e-5, atol=1e-6)


@EVERY_PRESET
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_grad_scaler_skips_a_step_that_is_not_finite_and_halves_its_scale(make, bad):
    net = network()
    optimizer = make(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    scaled_step(net, optimizer, scaler)
    before = values(net)
    state = {p: {name: value.clone() for name, value in held.items()} for p, held in optimizer.state.items()}
    optimizer.zero_grad()
    scaler.scale(loss_of(net)).backward()
    net[1].bias.grad[0] = bad
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(values(net), before, rtol=0, atol=0)
    for p, held in state.items():
        torch.testing.assert_close(dict(optimizer.state[p]), held, rtol=0, atol=0)
    assert scaler.get_scale() == 2.0**7
    scaled_step(net, optimizer, scaler)
    assert all(not torch.equal(value, before[name]) for name, value in values(net).items())


@EVERY_PRESET
def test_hooks_are_called_around_every_step(make):
    net = network()
    optimizer = make(net)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    handle = optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    loss_of(net).backward()
    optimizer.step()
    assert calls == ["before", "after"]
    handle.remove()
    optimizer.step()
    assert calls == ["before", "after", "before"]


@pytest.mark.parametrize("named", [True, False])
def test_a_group_that_comes_later_steps_with_the_others_and_has_the_defaults(named):
    a, b = (nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2))
    optimizer = SteepestDescent([("a", a)] if named else [a], LInf(), 0.1, mode="constrained", momentum=0.5)
    a.grad = b.grad = torch.tensor([1.0, -1.0], dtype=torch.float64)
    optimizer.step()
    optimizer.add_param_group({"params": [("b", b)] if named else [b], "lr": 0.25})
    optimizer.step()
    torch.testing.assert_close(a.data, torch.tensor([-0.2, 0.2], dtype=torch.float64))
    torch.testing.assert_close(b.data, torch.tensor([-0.25, 0.25], dtype=torch.float64))
    assert optimizer.param_groups[1]["norm"] == LInf()
    assert optimizer.param_groups[1]["momentum"] == 0.5


def test_muon_splits_a_group_that_comes_later_by_norm_and_keeps_its_options():
    optimizer = Muon([nn.Parameter(torch.zeros(2, 2))], 0.1)
    members = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 3), (8, 2), (4, 2, 2, 2))]
    optimizer.add_param_group({"params": members, "lr": 0.5, "weight_decay": 0.1})
    added = optimizer.param_groups[1:]
    assert [p for group in added for p in group["params"]] == members
    assert all((group["lr"], group["weight_decay"], group["momentum"]) == (0.5, 0.1, 0.95) for group in added)
    assert [type(group["norm"].norm).__name__ for group in added] == ["Spectral", "Spectral", "Flattened"]
    assert added[0]["norm"].norm == Spectral()
