"""The contract of `Norm`: a new norm is one more line in `CASES`."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.norms.points import (
    Point,
    added,
    assert_close,
    cast,
    each,
    gaussian,
    generic,
    inner,
    is_zero,
    largest,
    parts,
    points,
    times,
)

from steepest.norms import (
    L1,
    L2,
    Blockwise,
    Ellipsoid,
    Flattened,
    LInf,
    Lp,
    MaxColumn,
    MaxRow,
    Norm,
    Nuclear,
    Scaled,
    Schatten,
    Spectral,
    Split,
    duality_gap,
    objective,
    penalized_step,
)

EXACT = Spectral(exact=True)
VECTORS = [(), (1,), (5,), (4, 3), (2, 3, 4)]
MATRICES = [(4, 3), (3, 5), (3, 3), (1, 4), (2, 3, 4)]
KERNELS = [(4, 3, 2, 2), (2, 3, 3), (2, 3)]
BLOCKS = {"bias": L1(), "kernel": Scaled(Flattened(EXACT), by=0.5), "table": MaxRow(), "weight": EXACT}
# The last leaves blocks out.
NETWORKS = [
    {"weight": (4, 3), "bias": (4,), "kernel": (2, 3, 2), "table": (3, 2)},
    {"weight": (2, 2), "bias": ()},
]
CASES: dict[str, tuple[Norm, list]] = {
    "L1": (L1(), VECTORS),
    "L2": (L2(), VECTORS),
    "LInf": (LInf(), VECTORS),
    "Lp(1.5)": (Lp(1.5), VECTORS),
    "Lp(3)": (Lp(3), VECTORS),
    "Lp(10)": (Lp(10), VECTORS),
    "Ellipsoid, scalar": (Ellipsoid(torch.tensor(3.0)), VECTORS),
    "Ellipsoid, one entry each": (Ellipsoid(gaussian((4, 3), seed=7).exp()), [(4, 3)]),
    "Ellipsoid, one entry a column": (Ellipsoid(gaussian((3,), seed=8).exp()), [(3,), (4, 3), (2, 4, 3)]),
    "Ellipsoid, one entry a row": (Ellipsoid(gaussian((4, 1), seed=9).exp()), [(4, 3), (2, 4, 3)]),
    "Spectral": (EXACT, MATRICES),
    "Nuclear": (Nuclear(), MATRICES),
    "Schatten(1.5)": (Schatten(1.5), MATRICES),
    "Schatten(4)": (Schatten(4), MATRICES),
    "MaxRow": (MaxRow(), MATRICES),
    "MaxColumn": (MaxColumn(), MATRICES),
    "Scaled L1": (Scaled(L1(), by=2.5), VECTORS),
    "Scaled L2": (Scaled(L2(), by=0.1), VECTORS),
    "Scaled LInf": (Scaled(LInf(), by=0.25), VECTORS),
    "Scaled Spectral": (Scaled(EXACT, by=3.0), MATRICES),
    "Scaled Ellipsoid": (Scaled(Ellipsoid(torch.tensor([0.5, 2.0, 4.0])), by=3.0), [(3,), (4, 3)]),
    "Split LInf, count": (Split(LInf(), 2), [(4,), (2, 3), (4, 1, 2)]),
    "Split LInf, sizes, last dimension": (Split(LInf(), (1, 3), dim=-1), [(4,), (2, 4), (3, 2, 4)]),
    "Split L2, count, dimension 1": (Split(L2(), 3, dim=1), [(2, 3), (1, 6, 2)]),
    "Split Spectral, count": (Split(EXACT, 3), [(6, 3), (3, 4), (3, 2, 4)]),
    "Split Spectral, sizes, dimension 1": (Split(EXACT, [2, 1], dim=1), [(4, 3), (1, 3), (2, 3, 2)]),
    "Split MaxRow, count, last dimension": (Split(MaxRow(), 2, dim=-1), [(3, 4), (1, 2), (2, 3, 2)]),
    "Flattened Spectral": (Flattened(EXACT), KERNELS),
    "Flattened MaxRow": (Flattened(MaxRow()), KERNELS),
    "Scaled Flattened Spectral": (Scaled(Flattened(EXACT), by=0.5), KERNELS),
    "Split Scaled Spectral": (Split(Scaled(EXACT, by=2.0), 2), [(4, 3), (2, 2)]),
    "Split Flattened Schatten": (Split(Flattened(Schatten(3)), (1, 3)), [(4, 2, 2), (4, 1, 2, 2)]),
    "Blockwise, max": (Blockwise(BLOCKS, combine="max"), NETWORKS),
    "Blockwise, l2": (Blockwise(BLOCKS, combine="l2"), NETWORKS),
    "Blockwise, sum": (Blockwise(BLOCKS, combine="sum"), NETWORKS),
}
NORMS = [pytest.param(norm, shapes, id=name) for name, (norm, shapes) in CASES.items()]
EVERY_NORM = pytest.mark.parametrize(("norm", "shapes"), NORMS)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
# There are many norms.
FEW = settings(max_examples=3)
ALPHAS = st.floats(1e-3, 10)


def by_formula(norm: Norm, g: Point, u: Point, alpha: float) -> float:
    """<g, u> + ||u||^2 / alpha."""
    return inner(g, u) + float(norm(u)) ** 2 / alpha


@BOTH_DTYPES
@EVERY_NORM
@FEW
@given(data=st.data())
def test_the_duality_map_attains_the_dual_norm_with_a_unit_vector(norm, shapes, dtype, data):
    (g,) = (cast(g, dtype) for g in data.draw(points(shapes)))
    d = norm.duality_map(g)
    assert inner(g, d) == pytest.approx(float(norm.dual_norm(g)), rel=TOLERANCE[dtype])
    assert float(norm(d)) == pytest.approx(0.0 if is_zero(g) else 1.0, rel=TOLERANCE[dtype])


@BOTH_DTYPES
@EVERY_NORM
@FEW
@given(data=st.data())
def test_no_vector_beats_the_dual_norm(norm, shapes, dtype, data):
    g, x = (cast(x, dtype) for x in data.draw(points(shapes, count=2)))
    size, dual = float(norm(x)), float(norm.dual_norm(g))
    slack = 1 + TOLERANCE[dtype]
    assert abs(inner(g, x)) <= size * dual * slack
    # Fenchel's inequality of the conjugate pair ||x||^2 / 2 and ||g||_*^2 / 2, and where it is tight.
    assert inner(g, x) <= (size**2 + dual**2) / 2 * slack
    tight = times(norm.duality_map(g), dual)
    assert inner(g, tight) == pytest.approx((float(norm(tight)) ** 2 + dual**2) / 2, rel=3 * TOLERANCE[dtype])


@EVERY_NORM
@FEW
@given(data=st.data(), factor=st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3))
def test_norm_and_dual_norm_are_absolutely_homogeneous(norm, shapes, data, factor):
    (x,) = data.draw(points(shapes))
    for measure in (norm, norm.dual_norm):
        assert float(measure(times(x, factor))) == pytest.approx(abs(factor) * float(measure(x)), rel=1e-12)


@EVERY_NORM
@FEW
@given(data=st.data())
def test_norm_and_dual_norm_obey_the_triangle_inequality(norm, shapes, data):
    x, y = data.draw(points(shapes, count=2))
    for measure in (norm, norm.dual_norm):
        assert float(measure(added(x, y))) <= float(measure(x) + measure(y)) * (1 + 1e-12)


@EVERY_NORM
@FEW
@given(data=st.data())
def test_norm_and_dual_norm_vanish_only_at_zero(norm, shapes, data):
    (x,) = data.draw(points(shapes))
    for measure in (norm, norm.dual_norm):
        assert float(measure(x)) >= 0
        assert (float(measure(x)) > 0) == (not is_zero(x))


@EVERY_NORM
@FEW
@given(seed=st.integers(0, 10**6))
def test_the_duality_map_turns_with_the_sign_of_the_gradient(norm, shapes, seed):
    for shape in shapes:
        g = generic(shape, seed)
        assert_close(norm.duality_map(times(g, -1)), times(norm.duality_map(g), -1), 1e-12)


EXTREMES = [(torch.float64, -30), (torch.float64, 30), (torch.float32, -18), (torch.float32, 18)]
BETWEEN = [(torch.float64, k) for k in (-15, -3, 3, 15)] + [(torch.float32, k) for k in (-9, 9)]


@EVERY_NORM
@pytest.mark.parametrize("scales", [EXTREMES, pytest.param(BETWEEN, marks=pytest.mark.slow)], ids=["ends", "between"])
def test_the_scale_of_the_gradient_scales_the_norms_and_the_step_and_leaves_the_map(norm, shapes, scales):
    for (dtype, exponent), shape in itertools.product(scales, shapes):
        tolerance, scale = TOLERANCE[dtype], 10.0**exponent
        g = cast(generic(shape, seed=1), dtype)
        large = times(g, scale)
        assert_close(norm.duality_map(large), norm.duality_map(g), tolerance * largest(norm.duality_map(g)))
        for measure in (norm, norm.dual_norm):
            assert float(measure(large)) == pytest.approx(scale * float(measure(g)), rel=tolerance)
        u = penalized_step(norm, g, alpha=0.7)
        assert_close(times(penalized_step(norm, large, alpha=0.7), 1 / scale), u, 2 * tolerance * largest(u))


@BOTH_DTYPES
@EVERY_NORM
@FEW
@given(data=st.data(), alpha=ALPHAS)
def test_the_optimal_value_is_minus_a_quarter_alpha_dual_norm_squared(norm, shapes, dtype, data, alpha):
    (g,) = (cast(g, dtype) for g in data.draw(points(shapes)))
    u = penalized_step(norm, g, alpha)
    minimum = -alpha / 4 * float(norm.dual_norm(g)) ** 2
    assert by_formula(norm, g, u, alpha) == pytest.approx(minimum, rel=10 * TOLERANCE[dtype])
    assert float(objective(norm, g, u, alpha)) == pytest.approx(minimum, rel=10 * TOLERANCE[dtype])


@EVERY_NORM
def test_the_penalized_step_beats_random_competitors_far_and_near(norm, shapes):
    alpha = 0.7
    for i, shape in enumerate(shapes[-2:]):
        g = generic(shape, seed=i)
        step = penalized_step(norm, g, alpha)
        best = by_formula(norm, g, step, alpha)
        for k in range(25 // len(shapes[-2:])):
            noise = times(generic(shape, seed=10_000 * i + k), largest(step))
            assert by_formula(norm, g, noise, alpha) >= best
            near = added(step, times(noise, 10.0 ** (-k % 8)))
            assert by_formula(norm, g, near, alpha) >= best - 1e-12 * abs(best)


def descend(norm: Norm, g: Point, u: Point, alpha: float, best: float) -> list[float]:
    """The objective along plain (sub)gradient descent that aims just below `best`, with Polyak's steps."""
    values: list[float] = []
    for _ in range(30):
        u = each(lambda part: part.detach().clone().requires_grad_(), u)
        value = sum((a * b).sum() for a, b in zip(parts(g), parts(u), strict=True)) + norm(u) ** 2 / alpha
        values.append(float(value.detach()))
        slopes = torch.autograd.grad(value, parts(u))
        steepness = sum(float(slope.square().sum()) for slope in slopes)
        if steepness == 0:
            break
        rate = (values[-1] - best + 1e-6 * abs(best)) / steepness
        moves = iter(slopes)
        u = each(lambda part, rate=rate, moves=moves: part - rate * next(moves), u)
    return values


@EVERY_NORM
def test_gradient_descent_on_the_objective_does_not_get_below_the_penalized_step(norm, shapes):
    alpha = 0.7
    for i, shape in enumerate(shapes[-1:]):
        g = generic(shape, seed=i)
        step = penalized_step(norm, g, alpha)
        best = by_formula(norm, g, step, alpha)
        noise = times(generic(shape, seed=i + 20), largest(step))
        for start in (noise, added(step, times(noise, 0.01))):
            values = descend(norm, g, start, alpha, best)
            assert min(values) >= best - 1e-12 * abs(best)
            # Competitors indeed: from far away they come nearer.
            assert start is not noise or min(values) - best < 0.8 * (values[0] - best)


@EVERY_NORM
@FEW
@given(data=st.data(), alpha=ALPHAS)
def test_the_gap_of_any_step_is_what_it_misses_of_the_minimum_over_its_size(norm, shapes, data, alpha):
    g, u = data.draw(points(shapes, count=2))
    u = times(u, data.draw(st.floats(0.01, 10)))
    gap = float(duality_gap(norm, g, u, alpha))
    assert gap >= 0
    if is_zero(g):
        assert gap == (0 if is_zero(u) else math.inf)
        return
    size = alpha / 4 * float(norm.dual_norm(g)) ** 2
    value = by_formula(norm, g, u, alpha)
    assert gap == pytest.approx((value + size) / size, rel=1e-9, abs=1e-9)
    assert float(objective(norm, g, u, alpha)) == pytest.approx(value, rel=1e-12, abs=1e-12 * size)


@EVERY_NORM
@FEW
@given(data=st.data(), alpha=ALPHAS)
def test_the_gap_is_zero_at_the_penalized_step_and_one_at_the_zero_step(norm, shapes, data, alpha):
    (g,) = data.draw(points(shapes))
    assert 0 <= float(duality_gap(norm, g, penalized_step(norm, g, alpha), alpha)) < 1e-12
    at_rest = float(duality_gap(norm, g, times(g, 0), alpha))
    assert at_rest == (0 if is_zero(g) else pytest.approx(1, rel=1e-12))


@EVERY_NORM
@FEW
@given(data=st.data(), seed=st.integers(0, 10**6), alpha=ALPHAS)
def test_a_step_one_in_a_thousand_beside_the_minimiser_has_a_gap_above_rounding(norm, shapes, data, seed, alpha):
    shape = data.draw(st.sampled_from(shapes))
    g, direction = generic(shape, seed), generic(shape, seed + 1)
    u = penalized_step(norm, g, alpha)
    beside = added(u, times(direction, 1e-3 * largest(u) / largest(direction)))
    for wrong in (beside, times(u, 0.999), times(u, 1.001), times(u, -1)):
        assert float(duality_gap(norm, g, wrong, alpha)) > 1e-12


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)


@DTYPES
@EVERY_NORM
def test_shape_and_dtype_are_kept_and_half_precision_is_taken(norm, shapes, dtype):
    eps = torch.finfo(dtype).eps
    for shape in shapes:
        g = cast(generic(shape, seed=2), dtype)
        d, step = norm.duality_map(g), penalized_step(norm, g, alpha=0.1)
        for part, direction, moved in zip(parts(g), parts(d), parts(step), strict=True):
            assert (direction.shape, direction.dtype) == (moved.shape, moved.dtype) == (part.shape, dtype)
        # A network may mix dtypes: its norms are float64.
        assert norm(g).shape == norm.dual_norm(g).shape == ()
        assert norm(g).dtype == norm.dual_norm(g).dtype == (torch.float64 if isinstance(g, dict) else dtype)
        assert float(norm(d)) == pytest.approx(1, rel=8 * eps)
        assert inner(g, d) == pytest.approx(float(norm.dual_norm(g)), rel=16 * eps)
        assert duality_gap(norm, g, step, alpha=0.1).dtype == objective(norm, g, step, alpha=0.1).dtype == torch.float64
        assert float(duality_gap(norm, g, step, alpha=0.1)) <= 32 * eps


@EVERY_NORM
def test_a_gradient_need_not_be_contiguous(norm, shapes):
    for shape in shapes:
        g = generic(shape, seed=3)
        for strided in (
            each(lambda part: part.transpose(0, -1).contiguous().transpose(0, -1) if part.ndim else part, g),
            each(lambda part: torch.stack([part, part], dim=-1)[..., 0], g),
            each(lambda part: part.flatten()[0].clone().expand(part.shape), g),
        ):
            dense = each(torch.Tensor.contiguous, strided)
            assert_close(norm.duality_map(strided), norm.duality_map(dense), 1e-12 * largest(norm.duality_map(dense)))
            assert_close(penalized_step(norm, strided, 0.1), penalized_step(norm, dense, 0.1), 1e-12 * largest(dense))
            torch.testing.assert_close(norm(strided), norm(dense))
            torch.testing.assert_close(norm.dual_norm(strided), norm.dual_norm(dense))


@EVERY_NORM
def test_the_maps_of_a_list_are_those_one_by_one(norm, shapes):
    gs = [generic(shape, seed) for seed, shape in enumerate([*shapes, *reversed(shapes), *shapes])]
    gs[0] = cast(gs[0], torch.float32)
    gs[-1] = times(gs[-1], 0)
    maps = norm.duality_maps(gs)
    assert len(maps) == len(gs)
    for g, result in zip(gs, maps, strict=True):
        expected = norm.duality_map(g)
        assert_close(result, expected, 20 * TOLERANCE[parts(g)[0].dtype] * largest(expected))
    assert norm.duality_maps([]) == []


@EVERY_NORM
def test_the_pair_is_the_map_and_the_dual_norm(norm, shapes):
    for shape in shapes:
        g = generic(shape, seed=5)
        direction, dual = norm.duality_pair(g)
        assert_close(direction, norm.duality_map(g), 1e-12 * largest(direction))
        torch.testing.assert_close(dual, norm.dual_norm(g), rtol=1e-12, atol=0)


@EVERY_NORM
def test_what_is_called_entrywise_can_be_taken_in_pieces(norm, shapes):
    pieces: dict[bool, list] = {norm.map_is_entrywise: [norm.duality_map]}
    pieces.setdefault(norm.step_factor is not None, []).append(lambda g: penalized_step(norm, g, alpha=0.1))
    for shape in shapes if True in pieces else []:
        g = generic(shape, seed=6)
        for function in pieces[True]:
            halves = torch.cat([function(half) for half in g.flatten().split(max(1, g.numel() // 2))])
            assert torch.equal(halves.view(g.shape), function(g))


@EVERY_NORM
def test_where_there_is_a_step_factor_the_step_is_that_multiple_of_the_gradient(norm, shapes):
    for shape in shapes if norm.step_factor is not None else []:
        g = generic(shape, seed=7)
        torch.testing.assert_close(penalized_step(norm, g, alpha=0.1), -norm.step_factor * 0.05 * g, rtol=1e-14, atol=0)


@EVERY_NORM
def test_inputs_are_not_changed_and_results_share_no_memory_with_them(norm, shapes):
    for shape in shapes:
        g = generic(shape, seed=4)
        before = each(torch.clone, g)
        results = [norm(g), norm.dual_norm(g), norm.duality_map(g), *norm.duality_maps([g, g]), *norm.duality_pair(g)]
        results += [
            penalized_step(norm, g, alpha=0.1),
            objective(norm, g, g, alpha=0.1),
            duality_gap(norm, g, g, alpha=0.1),
        ]
        for result in results:
            each(lambda part: part.fill_(math.nan), result)
        for part, original in zip(parts(g), parts(before), strict=True):
            assert torch.equal(part, original)


@EVERY_NORM
def test_norms_are_equal_by_value_can_be_keys_and_cannot_be_changed(norm, shapes):
    for twin in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert twin == norm
        assert hash(twin) == hash(norm)
        assert {norm: 1}[twin] == 1
    with pytest.raises((AttributeError, TypeError)):
        norm.something = 1


@EVERY_NORM
def test_an_exact_norm_is_itself_exactly(norm, shapes):
    assert norm.exactly() == norm


def test_different_norms_are_different():
    norms: list[Norm] = [norm for norm, _ in CASES.values()]
    norms += [Spectral(), Scaled(LInf(), by=0.5), Flattened(Spectral()), Split(LInf(), 3), Blockwise({"bias": L1()})]
    assert len(set(norms)) == len(norms)
