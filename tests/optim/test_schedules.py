"""Schedules: what they set is the learning rate, and a layer's own factor stays; rates that are tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from steepest.norms import L2, LInf, Spectral
from steepest.optim import Muon, Route, Scion, SignDescent, SteepestDescent, route


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).double()


RULES = {"2.*": Route(L2(), factor=0.25), "*": L2()}
MAKERS: dict[str, Callable[[nn.Module, Any], torch.optim.Optimizer]] = {
    "Scion of a module": lambda net, lr: Scion(net, lr),
    "Scion of names": lambda net, lr: Scion(net.named_parameters(), lr),
    "Muon of a route": lambda net, lr: Muon(route(net).param_groups(lr), lr),
    "penalised": lambda net, lr: SteepestDescent(route(net, RULES).param_groups(lr), lr=lr),
}
EVERY_MAKER = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def set_by_hand(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.02


def plateau(optimizer: torch.optim.Optimizer) -> None:
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    scheduler.step(1.0)
    scheduler.step(2.0)


def sequential(optimizer: torch.optim.Optimizer) -> None:
    schedulers = [LinearLR(optimizer, 0.5, total_iters=4), CosineAnnealingLR(optimizer, 10)]
    SequentialLR(optimizer, schedulers, milestones=[4])


SCHEDULES: dict[str, tuple[Callable[[torch.optim.Optimizer], object], float]] = {
    "by hand": (set_by_hand, 0.02),
    "one cycle": (lambda o: OneCycleLR(o, max_lr=0.04, total_steps=10, div_factor=4, cycle_momentum=False), 0.01),
    "cyclic": (lambda o: CyclicLR(o, base_lr=0.03, max_lr=0.06, cycle_momentum=False), 0.03),
    "plateau": (plateau, 0.005),
    "a lambda for each group": (lambda o: LambdaLR(o, [lambda _: 0.5 for _ in o.param_groups]), 0.005),
    "sequential": (sequential, 0.005),
}


def steps(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    before = [p.detach().clone() for p in net.parameters()]
    for i, p in enumerate(net.parameters()):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype)
    optimizer.step()
    return [p.detach() - start for p, start in zip(net.parameters(), before, strict=True)]


@pytest.mark.parametrize("number", [float, torch.tensor], ids=["float", "tensor"])
@pytest.mark.parametrize(("schedule", "rate"), SCHEDULES.values(), ids=SCHEDULES)
@EVERY_MAKER
def test_every_schedule_sets_one_rate_and_keeps_the_factors(make, schedule, rate, number):
    net = network()
    optimizer = make(net, number(0.01))
    factors = [group["factor"] for group in optimizer.param_groups]
    assert len(set(factors)) == 2
    schedule(optimizer)
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([rate] * len(factors))
    assert [group["factor"] for group in optimizer.param_groups] == factors
    expected = network()
    torch.testing.assert_close(steps(net, optimizer), steps(expected, make(expected, rate)), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("mode", ["penalized", "constrained"])
@pytest.mark.parametrize("norm", [L2(), LInf(), Spectral()], ids=str)
def test_a_factor_multiplies_the_steps_in_every_norm_and_mode_and_not_the_decay(norm, mode):
    results = []
    for factor in (1.0, 3.0, 0.0):
        w = nn.Parameter(torch.eye(3, dtype=torch.float64))
        w.grad = torch.arange(9.0, dtype=torch.float64).view(3, 3) - 3
        group = {"params": [("w", w)], "norm": norm, "factor": factor}
        optimizer = SteepestDescent([group], lr=0.1, mode=mode, weight_decay=0.5)
        optimizer.step()
        results.append(w.detach() - 0.95 * torch.eye(3, dtype=torch.float64))
        assert f"factor: {factor}" in repr(optimizer)
    torch.testing.assert_close(results[1], 3 * results[0])
    assert not results[2].any()


def test_the_table_of_a_route_shows_the_factor_and_what_it_makes_of_a_step():
    (line,) = [line for line in str(route(network())).splitlines() if line.startswith("2.weight")]
    assert line.split()[-3:] == ["60", "7.5", "lr"]


def test_groups_that_share_a_tensor_as_rate_get_one_each_and_a_single_group_keeps_the_given_one():
    lr = torch.tensor(0.1)
    weights = [nn.Parameter(torch.zeros(shape)) for shape in ((4, 8), (8, 16), (16, 4))]
    (only,) = SignDescent(weights, lr).param_groups
    assert only["lr"] is lr
    two = SteepestDescent([{"params": weights[:1]}, {"params": weights[1:]}], L2(), lr)
    for optimizer in (Muon(weights, lr), two, Scion(weights, lr)):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert len(rates) == len({id(rate) for rate in rates}) > 1
        assert all(isinstance(rate, torch.Tensor) and rate is not lr for rate in rates)
        plateau(optimizer)
        assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.05] * len(rates))
        state = optimizer.state_dict()
        for group in state["param_groups"]:
            group["lr"] = lr
        optimizer.load_state_dict(state)
        assert len({id(group["lr"]) for group in optimizer.param_groups}) == len(rates)
    assert float(lr) == pytest.approx(0.1)


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("norm", [L2(), LInf(), Spectral()], ids=str)
def test_a_rate_of_one_element_may_have_any_shape_also_where_it_stays_a_tensor(norm, shape, compiling, monkeypatch):
    results = []
    for lr in (0.25, torch.full(shape, 0.25)):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda lr=lr: compiling and isinstance(lr, torch.Tensor))
        params = [nn.Parameter(torch.eye(size)) for size in (2, 1)]
        optimizer = SteepestDescent(params, norm, lr, mode="constrained", weight_decay=0.5, momentum=0.5)
        for step in range(2):
            for p in params:
                p.grad = torch.full_like(p, step + 1.0)
            optimizer.step()
        results.append([p.detach() for p in params])
        monkeypatch.undo()
    torch.testing.assert_close(*results)
