"""A network's norm: how the blocks are coupled."""

from __future__ import annotations

import math

import pytest
import torch
from tests.norms.points import gaussian

from steepest.errors import InvalidArgument, UnknownName
from steepest.norms import (
    L2,
    Blockwise,
    LInf,
    MaxRow,
    Spectral,
    constrained_step,
    duality_gap,
    objective,
    penalized_step,
)

BLOCKS = {"bias": L2(), "sign": LInf(), "table": MaxRow(), "weight": Spectral(exact=True)}
ALPHA = 0.3
COMBINES = pytest.mark.parametrize("combine", ["max", "l2", "sum"])


def gradient(seed: int = 0) -> dict[str, torch.Tensor]:
    shapes = {"weight": (4, 3), "bias": (4,), "table": (3, 2), "sign": (2, 2)}
    return {name: gaussian(shape, seed + i) for i, (name, shape) in enumerate(shapes.items())}


def duals(g: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: BLOCKS[name].dual_norm(part) for name, part in g.items()}


@pytest.mark.parametrize(
    ("combine", "combined", "dual"),
    [("max", max, math.fsum), ("l2", lambda v: math.hypot(*v), lambda v: math.hypot(*v)), ("sum", math.fsum, max)],
    ids=["max", "l2", "sum"],
)
def test_norm_and_dual_norm_are_those_of_the_blocks_combined(combine, combined, dual):
    x, norm = gradient(), Blockwise(BLOCKS, combine)
    assert float(norm(x)) == pytest.approx(combined([float(BLOCKS[name](part)) for name, part in x.items()]), rel=1e-14)
    assert float(norm.dual_norm(x)) == pytest.approx(dual([float(v) for v in duals(x).values()]), rel=1e-14)


def test_by_max_every_blocks_step_carries_the_sum_of_all_dual_norms():
    g = gradient()
    total = sum(duals(g).values())
    for name, step in penalized_step(Blockwise(BLOCKS, "max"), g, ALPHA).items():
        torch.testing.assert_close(step, -ALPHA / 2 * total * BLOCKS[name].duality_map(g[name]), rtol=0, atol=1e-12)


def test_by_l2_every_blocks_step_is_its_own():
    g = gradient()
    for name, step in penalized_step(Blockwise(BLOCKS, "l2"), g, ALPHA).items():
        torch.testing.assert_close(step, penalized_step(BLOCKS[name], g[name], ALPHA), rtol=0, atol=1e-12)


@pytest.mark.parametrize("largest", BLOCKS)
def test_by_sum_only_the_block_with_the_largest_dual_norm_moves(largest):
    g = gradient()
    g[largest] = g[largest] * 100
    steps = penalized_step(Blockwise(BLOCKS, "sum"), g, ALPHA)
    for name, step in steps.items():
        if name == largest:
            torch.testing.assert_close(step, penalized_step(BLOCKS[name], g[name], ALPHA))
        else:
            assert not step.any()
            assert step.shape == g[name].shape


def test_the_constrained_step_by_max_maps_each_block_by_itself():
    g = gradient()
    for name, step in constrained_step(Blockwise(BLOCKS, "max"), g, radius=0.1).items():
        torch.testing.assert_close(step, -0.1 * BLOCKS[name].duality_map(g[name]))


@COMBINES
def test_the_constrained_step_has_the_radius_as_its_norm_and_the_least_product(combine):
    g, norm = gradient(), Blockwise(BLOCKS, combine)
    step = constrained_step(norm, g, radius=0.1)
    assert float(norm(step)) == pytest.approx(0.1, rel=1e-12)
    product = float(sum((g[name] * step[name]).sum() for name in g))
    assert product == pytest.approx(-0.1 * float(norm.dual_norm(g)), rel=1e-12)


@COMBINES
def test_a_block_that_is_left_out_counts_as_zero(combine):
    norm, g = Blockwise(BLOCKS, combine), gradient()
    partial = {name: g[name] for name in ("sign", "weight")}
    filled = {name: part if name in partial else torch.zeros_like(part) for name, part in g.items()}
    torch.testing.assert_close(norm(partial), norm(filled))
    torch.testing.assert_close(norm.dual_norm(partial), norm.dual_norm(filled))
    steps, all_steps = (penalized_step(norm, x, ALPHA) for x in (partial, filled))
    assert steps.keys() == partial.keys()
    for name, step in steps.items():
        torch.testing.assert_close(step, all_steps[name])
    assert float(duality_gap(norm, filled, steps, ALPHA)) < 1e-12
    assert float(duality_gap(norm, partial, all_steps, ALPHA)) < 1e-12


@COMBINES
def test_all_blocks_left_out_are_zero_too(combine):
    norm, g = Blockwise(BLOCKS, combine), gradient()
    assert float(norm({})) == float(norm.dual_norm({})) == 0
    assert norm.duality_map({}) == penalized_step(norm, {}, ALPHA) == {}
    assert float(duality_gap(norm, g, {}, ALPHA)) == pytest.approx(1, rel=1e-12)
    assert float(objective(norm, g, {}, ALPHA)) == 0
    assert float(duality_gap(norm, {}, {}, ALPHA)) == 0


@COMBINES
def test_the_order_of_names_makes_no_difference(combine):
    g = gradient()
    norm, reverse = Blockwise(BLOCKS, combine), Blockwise(dict(reversed(BLOCKS.items())), combine)
    assert norm == reverse
    assert hash(norm) == hash(reverse)
    step = penalized_step(norm, g, ALPHA)
    assert list(step) == list(g)
    for name, part in penalized_step(norm, dict(reversed(g.items())), ALPHA).items():
        assert torch.equal(part, step[name])


def test_the_blocks_are_copied_and_can_be_looked_up():
    blocks = dict(BLOCKS)
    norm = Blockwise(blocks)
    blocks.clear()
    norm.norms.clear()
    assert norm.norms == BLOCKS
    assert norm.combine == "max"


@COMBINES
def test_the_blocks_of_one_network_may_differ_in_dtype(combine):
    g = gradient()
    mixed = {
        name: part.to(dtype) for (name, part), dtype in zip(g.items(), [torch.float32, torch.bfloat16] * 2, strict=True)
    }
    step = penalized_step(Blockwise(BLOCKS, combine), mixed, ALPHA)
    assert {name: part.dtype for name, part in step.items()} == {name: part.dtype for name, part in mixed.items()}
    assert float(duality_gap(Blockwise(BLOCKS, combine), mixed, step, ALPHA)) < 0.05


@COMBINES
def test_a_tensor_without_a_norm_is_refused_with_the_nearest_name(combine):
    norm, g = Blockwise(BLOCKS, combine), {"weigth": torch.ones(2, 2)}
    for call in (norm, norm.dual_norm, norm.duality_map, lambda g: penalized_step(norm, g, ALPHA)):
        with pytest.raises(UnknownName, match=r"no such block in this norm \(got 'weigth'\). Did you mean weight\?"):
            call(g)


def test_a_network_without_norms_is_refused():
    with pytest.raises(InvalidArgument, match=r"norms must hold a norm for each block \(got {}\). Try"):
        Blockwise({})


@pytest.mark.parametrize("combine", ["mean", "", 2])
def test_an_unknown_way_to_combine_is_refused(combine):
    with pytest.raises(InvalidArgument, match="combine must be one of max, l2, sum"):
        Blockwise(BLOCKS, combine)
