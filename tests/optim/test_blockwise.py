"""A whole network's norm: one step of all parameters of a group together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.norms import L2, Blockwise, LInf, MaxRow, Norm, Spectral, duality_gap
from steepest.optim import SteepestDescent

BLOCKS: dict[str, Norm] = {
    "0.weight": MaxRow(),
    "1.weight": Spectral(exact=True),
    "1.bias": L2(),
    "2.weight": LInf(),
    "2.bias": L2(),
}
COMBINE = pytest.mark.parametrize("combine", ["max", "l2", "sum"])
MODES = pytest.mark.parametrize("mode", ["penalized", "constrained"])


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)).double()


def gradients(net: nn.Module, step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in net.named_parameters()}


def values(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def by_hand(combine: str, v: dict[str, Tensor], lr: float, mode: str) -> dict[str, Tensor]:
    """The table in the docstring of `Blockwise`, written down anew."""
    duals = {name: float(BLOCKS[name].dual_norm(part)) for name, part in v.items()}
    maps = {name: BLOCKS[name].duality_map(part) for name, part in v.items()}
    largest = max(duals, key=lambda name: duals[name])
    root = sum(dual**2 for dual in duals.values()) ** 0.5
    if mode == "constrained":
        share = {"max": lambda _: 1.0, "l2": lambda n: duals[n] / root, "sum": lambda n: float(n == largest)}
    else:
        share = {
            "max": lambda _: sum(duals.values()),
            "l2": lambda n: duals[n],
            "sum": lambda n: duals[n] * (n == largest),
        }
    return {name: -lr * share[combine](name) * maps[name] for name in v}


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "maximize": True, "weight_decay": 0.2}],
    ids=["plain", "momentum", "all"],
)
@MODES
@COMBINE
def test_all_blocks_step_together_as_the_table_says(combine, mode, options):
    net, lr, momentum = network(), 0.05, options.get("momentum", 0.0)
    optimizer = SteepestDescent(net.named_parameters(), Blockwise(BLOCKS, combine), lr, mode=mode, **options)
    expected = values(net)
    buffers = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(3):
        grads = gradients(net, step)
        followed = {}
        for name, p in net.named_parameters():
            p.grad = grads[name].clone()
            g = -grads[name] if options.get("maximize") else grads[name]
            buffers[name] = momentum * buffers[name] + g
            followed[name] = g + momentum * buffers[name] if options.get("nesterov") else buffers[name]
        optimizer.step()
        for name, u in by_hand(combine, followed, lr, mode).items():
            expected[name] = expected[name] * (1 - lr * options.get("weight_decay", 0)) + u
        for name, p in net.named_parameters():
            assert torch.equal(p.grad, grads[name])
    torch.testing.assert_close(values(net), expected, rtol=1e-10, atol=1e-11)


@COMBINE
def test_the_penalised_step_of_a_network_is_the_minimiser_by_its_certificate(combine):
    net, lr = network(), 0.05
    norm, before, grads = Blockwise(BLOCKS, combine), values(net), gradients(net, 0)
    for name, p in net.named_parameters():
        p.grad = grads[name]
    SteepestDescent(net.named_parameters(), norm, lr).step()
    step = {name: value - before[name] for name, value in values(net).items()}
    assert float(duality_gap(norm, grads, step, alpha=2 * lr)) < 1e-12


def test_combined_by_max_every_block_is_as_long_as_the_sum_of_all_dual_norms():
    net, lr = network(), 0.05
    before, grads = values(net), gradients(net, 0)
    for name, p in net.named_parameters():
        p.grad = grads[name]
    SteepestDescent(net.named_parameters(), Blockwise(BLOCKS, "max"), lr).step()
    total = sum(float(norm.dual_norm(grads[name])) for name, norm in BLOCKS.items())
    for name, value in values(net).items():
        assert float(BLOCKS[name](value - before[name])) == pytest.approx(lr * total, rel=1e-10), name


@MODES
@COMBINE
def test_a_missing_gradient_counts_as_zero(combine, mode):
    results = []
    for missing in (True, False):
        net = network()
        optimizer = SteepestDescent(net.named_parameters(), Blockwise(BLOCKS, combine), 0.05, mode=mode, momentum=0.5)
        for name, p in net.named_parameters():
            zero = torch.zeros_like(p)
            p.grad = gradients(net, 0)[name] if name != "1.weight" else None if missing else zero
        optimizer.step()
        assert (net[1].weight in optimizer.state) is not missing
        results.append(values(net))
    torch.testing.assert_close(*results, rtol=1e-14, atol=0)
    assert torch.equal(results[0]["1.weight"], network()[1].weight)


def test_without_any_gradient_nothing_moves():
    net = network()
    SteepestDescent(net.named_parameters(), Blockwise(BLOCKS), 0.05, weight_decay=0.5).step()
    torch.testing.assert_close(values(net), values(network()), rtol=0, atol=0)


def test_two_groups_are_two_networks():
    net = network()
    named = list(net.named_parameters())
    parts = named[:1], named[1:]
    optimizer = SteepestDescent(
        [
            {"params": part, "norm": Blockwise({name: BLOCKS[name] for name, _ in part}), "lr": lr}
            for part, lr in zip(parts, (0.1, 0.2), strict=True)
        ]
    )
    before, grads = values(net), gradients(net, 0)
    for name, p in named:
        p.grad = grads[name]
    optimizer.step()
    expected = {
        **by_hand("max", {name: grads[name] for name, _ in parts[0]}, 0.1, "penalized"),
        **by_hand("max", {name: grads[name] for name, _ in parts[1]}, 0.2, "penalized"),
    }
    torch.testing.assert_close(values(net), {name: before[name] + expected[name] for name in before})


def test_a_block_without_parameter_is_refused_with_a_suggestion():
    blocks = {**BLOCKS, "2.wieght": LInf()}
    with pytest.raises(UnknownName, match=r"parameter of this norm's block \(got '2.wieght'\). Did you mean 2.weight"):
        SteepestDescent(network().named_parameters(), Blockwise(blocks))


def test_a_parameter_without_block_is_refused():
    blocks = {name: norm for name, norm in BLOCKS.items() if name != "1.bias"}
    with pytest.raises(UnknownName, match=r"block for this parameter in the norm \(got '1.bias'\)"):
        SteepestDescent(network().named_parameters(), Blockwise(blocks))


def test_parameters_without_names_are_refused():
    message = r"finds them \(got 'parameters without names'\). Pass model.named_parameters\(\)."
    with pytest.raises(InvalidArgument, match=message):
        SteepestDescent(network().parameters(), Blockwise(BLOCKS))


def test_a_group_whose_names_do_not_match_is_not_added():
    net = network()
    optimizer = SteepestDescent(list(net.named_parameters())[:1], LInf())
    with pytest.raises(UnknownName):
        optimizer.add_param_group({"params": list(net.named_parameters())[1:], "norm": Blockwise(BLOCKS)})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": list(net.named_parameters())[1:]})  # they are free to join another
