"""A whole model's optimizer: what it makes of modules, names, shapes and groups, and that it trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument
from steepest.norms import L2, Flattened, LInf, MaxRow, Norm, Scaled, Spectral
from steepest.optim import Scion, SteepestDescent, route


def language_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        names = {
            "wte": nn.Embedding(7, 4),
            "inner": nn.Linear(4, 6),
            "norm": nn.LayerNorm(6),
            "head": nn.Linear(6, 7, bias=False),
        }
        return nn.ModuleDict(names).double()


def options_by_name(optimizer: torch.optim.Optimizer) -> dict[str, tuple[Norm, float]]:
    return {
        name: (group["norm"], pytest.approx(float(group["lr"]) * group["factor"]))
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


def options_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> tuple[Norm, float]:
    (group,) = (g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    return group["norm"], float(group["lr"]) * group["factor"]


def with_gradients(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def test_a_module_is_routed_by_scions_rules_with_their_factors():
    model = language_model()
    expected = {name: (to.norm, pytest.approx(0.1 * to.factor)) for name, to in route(model).items()}
    assert options_by_name(Scion(model, 0.1)) == expected
    assert len(expected) == 6


def test_a_step_is_minus_the_radius_times_the_duality_map_of_the_momentum():
    model = language_model()
    routing, optimizer = route(model), Scion(model, 0.01, momentum=0.8, weight_decay=0.1)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    buffers = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(3):
        with_gradients(model, step)
        for name, p in model.named_parameters():
            lr = 0.01 * routing[name].factor
            buffers[name] = 0.8 * buffers[name] + p.grad
            expected[name] = (1 - 0.1 * 0.01) * expected[name] - lr * routing[name].norm.duality_map(buffers[name])
        optimizer.step()
    torch.testing.assert_close({n: p.detach() for n, p in model.named_parameters()}, expected, rtol=1e-9, atol=1e-10)


def test_named_parameters_are_routed_as_their_module_is_where_names_say_so():
    model = language_model()
    assert options_by_name(Scion(model.named_parameters(), 0.1)) == options_by_name(Scion(model, 0.1))


def test_plain_parameters_are_routed_by_shape():
    table, kernel, bias = (nn.Parameter(torch.zeros(shape)) for shape in ((8, 2), (4, 3, 2, 2), (5,)))
    optimizer = Scion([table, kernel, bias], 0.1)
    assert options_of(optimizer, table) == (Scaled(Spectral(), (2 / 8) ** 0.5), 0.1)
    assert options_of(optimizer, kernel) == (Scaled(Flattened(Spectral()), (12 / 4) ** 0.5), 0.1)
    assert options_of(optimizer, bias) == (Scaled(L2(), 5**-0.5), 0.1)


def test_groups_of_plain_and_of_named_parameters_keep_their_other_options():
    model = language_model()
    inner, head = (list(model[name].named_parameters(prefix=name)) for name in ("inner", "head"))
    optimizer = Scion([{"params": inner, "weight_decay": 0.3}, {"params": head, "momentum": 0.5}], 0.1)
    found = {name: (g["weight_decay"], g["momentum"]) for g in optimizer.param_groups for name in g["param_names"]}
    assert found == {"inner.weight": (0.3, 0.9), "inner.bias": (0.3, 0.9), "head.weight": (0, 0.5)}
    w = nn.Parameter(torch.zeros(3, 3))
    (group,) = Scion([{"params": w, "weight_decay": 0.3}], 0.1).param_groups
    assert group["params"] == [w]
    assert group["weight_decay"] == 0.3


def test_a_group_with_a_learning_rate_of_its_own_has_it():
    a, b = (nn.Parameter(torch.zeros(3, 3)) for _ in range(2))
    optimizer = Scion([{"params": [a], "lr": 0.5}, {"params": [b]}], 0.1)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5, 0.1]


def test_a_group_with_a_norm_of_its_own_has_it():
    w = nn.Parameter(torch.zeros(3, 3))
    (group,) = Scion([{"params": [w], "norm": MaxRow()}], 0.1).param_groups
    assert group["norm"] == MaxRow()


def test_the_groups_of_a_route_are_taken_with_their_norms_and_rates():
    model = language_model()
    routing = route(model, {"head.weight": LInf(), "*": L2()})
    expected = {name: (to.norm, pytest.approx(0.2)) for name, to in routing.items()}
    assert options_by_name(Scion(routing.param_groups(0.2), 0.1)) == expected


def test_frozen_parameters_of_a_module_are_left_out():
    model = language_model()
    model["inner"].weight.requires_grad_(False)
    assert "inner.weight" not in options_by_name(Scion(model, 0.1))


def test_a_learning_rate_may_be_a_tensor():
    results = []
    for lr in (0.25, torch.tensor(0.25)):
        model = language_model()
        optimizer = Scion(model, lr)
        with_gradients(model)
        optimizer.step()
        results.append([p.detach() for p in model.parameters()])
        assert all(isinstance(group["lr"], type(lr)) for group in optimizer.param_groups)
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_it_is_constrained_with_momentum_of_09():
    (group,) = Scion([nn.Parameter(torch.zeros(2, 2))], 0.1).param_groups
    assert (group["mode"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        "constrained",
        0.9,
        False,
        0,
    )


def test_with_weight_decay_the_weights_stay_within_the_ball_of_radius_factor_over_it():
    model = language_model()
    routing, optimizer = route(model), Scion(model, 0.02, weight_decay=0.5)
    for step in range(80):
        with_gradients(model, step % 3)
        optimizer.step()
    for name, p in model.named_parameters():
        # The iterative spectral map is up to 0.15 longer than 1.
        assert float(routing[name].norm(p.detach())) <= 1.15 / 0.5 * routing[name].factor, name


@pytest.mark.parametrize("lr", [-1.0, float("nan")])
def test_it_checks_its_options_as_steepest_descent_does(lr):
    for params in (language_model(), [nn.Parameter(torch.zeros(2, 2))]):
        with pytest.raises(InvalidArgument, match=r"lr must be a number in \[0, inf\)"):
            Scion(params, lr)


def test_without_parameters_torch_says_so():
    with pytest.raises(ValueError, match="empty parameter list"):
        Scion([], 0.1)


@pytest.mark.parametrize(
    "of",
    [
        lambda net: net,
        pytest.param(lambda net: net.named_parameters(), marks=pytest.mark.slow),
        pytest.param(lambda net: net.parameters(), marks=pytest.mark.slow),
    ],
    ids=["module", "names", "parameters"],
)
def test_it_trains_a_small_network(of):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        x = torch.randn(64, 4)
    y = (x[:, :1] * x[:, 1:2]).sin()
    optimizer = Scion(of(net), 0.02)
    assert isinstance(optimizer, SteepestDescent)
    losses = []
    for _ in range(120):
        for group in optimizer.param_groups:
            group["lr"] *= 0.98
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
