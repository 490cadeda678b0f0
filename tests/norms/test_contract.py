"""The contract of `Norm`: a new norm is one more line in `CASES`."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steepest.norms import L2, Flattened, LInf, Norm, Scaled, Spectral, penalized_step

VECTORS = [(), (1,), (5,), (4, 3), (2, 3, 4)]
MATRICES = [(4, 3), (3, 5), (3, 3), (1, 4), (2, 3, 4)]
KERNELS = [(4, 3, 2, 2), (2, 3, 3), (2, 3)]
CASES = {
    "L2": (L2(), VECTORS),
    "LInf": (LInf(), VECTORS),
    "Spectral": (Spectral(exact=True), MATRICES),
    "Scaled LInf": (Scaled(LInf(), by=0.25), VECTORS),
    "Scaled Spectral": (Scaled(Spectral(exact=True), by=3.0), MATRICES),
    "Flattened Spectral": (Flattened(Spectral(exact=True)), KERNELS),
}
NORMS = [pytest.param(norm, shapes, id=name) for name, (norm, shapes) in CASES.items()]
EVERY_NORM = pytest.mark.parametrize(("norm", "shapes"), NORMS)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rank_one(shape: tuple[int, ...], seed: int) -> Tensor:
    """An outer product over the dimensions, so that every matrix that can be read from it has rank 1."""
    x = torch.ones((), dtype=torch.float64)
    for i, size in enumerate(shape):
        x = x.unsqueeze(-1) * gaussian((size,), seed + i)
    return x


def small_integers(shape: tuple[int, ...], seed: int) -> Tensor:
    """Ties, zeros and rows that depend on each other."""
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).double()


def zeros(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


KINDS = [gaussian, rank_one, small_integers, zeros]


@st.composite
def tensors(draw: st.DrawFn, shapes: list[tuple[int, ...]], count: int = 1) -> list[Tensor]:
    """Some tensors of one of the shapes, each of any kind."""
    shape = draw(st.sampled_from(shapes))
    return [draw(st.sampled_from(KINDS))(shape, draw(st.integers(0, 10**6))) for _ in range(count)]


def inner(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())


@BOTH_DTYPES
@EVERY_NORM
@given(data=st.data())
def test_the_duality_map_attains_the_dual_norm_with_a_unit_vector(norm, shapes, dtype, data):
    (g,) = data.draw(tensors(shapes))
    d = norm.duality_map(g.to(dtype))
    tolerance = TOLERANCE[dtype]
    assert inner(g, d) == pytest.approx(float(norm.dual_norm(g.to(dtype))), rel=tolerance)
    assert float(norm(d)) == pytest.approx(1.0 if g.any() else 0.0, rel=tolerance)


@BOTH_DTYPES
@EVERY_NORM
@given(data=st.data())
def test_no_vector_beats_the_dual_norm(norm, shapes, dtype, data):
    g, x = data.draw(tensors(shapes, count=2))
    size, dual = float(norm(x.to(dtype))), float(norm.dual_norm(g.to(dtype)))
    slack = 1 + TOLERANCE[dtype]
    assert abs(inner(g, x)) <= size * dual * slack
    # Fenchel's inequality of the conjugate pair ||x||^2 / 2 and ||g||_*^2 / 2, and where it is tight.
    assert inner(g, x) <= (size**2 + dual**2) / 2 * slack
    tight = norm.duality_map(g) * norm.dual_norm(g)
    assert inner(g, tight) == pytest.approx(float(norm(tight) ** 2 + norm.dual_norm(g) ** 2) / 2, rel=1e-12)


@BOTH_DTYPES
@EVERY_NORM
@given(data=st.data(), factor=st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3))
def test_norm_and_dual_norm_are_absolutely_homogeneous(norm, shapes, dtype, data, factor):
    (x,) = (x.to(dtype) for x in data.draw(tensors(shapes)))
    for measure in (norm, norm.dual_norm):
        assert float(measure(factor * x)) == pytest.approx(abs(factor) * float(measure(x)), rel=TOLERANCE[dtype])


@BOTH_DTYPES
@EVERY_NORM
@given(data=st.data())
def test_norm_and_dual_norm_obey_the_triangle_inequality(norm, shapes, dtype, data):
    x, y = (x.to(dtype) for x in data.draw(tensors(shapes, count=2)))
    for measure in (norm, norm.dual_norm):
        assert float(measure(x + y)) <= float(measure(x) + measure(y)) * (1 + TOLERANCE[dtype])


@EVERY_NORM
@given(data=st.data())
def test_norm_and_dual_norm_vanish_only_at_zero(norm, shapes, data):
    (x,) = data.draw(tensors(shapes))
    for measure in (norm, norm.dual_norm):
        assert (float(measure(x)) > 0) == bool(x.any())


@EVERY_NORM
@given(seed=st.integers(0, 10**6))
def test_the_duality_map_turns_with_the_sign_of_the_gradient(norm, shapes, seed):
    for shape in shapes:
        g = gaussian(shape, seed)
        torch.testing.assert_close(norm.duality_map(-g), -norm.duality_map(g), rtol=0, atol=1e-12)


@EVERY_NORM
@pytest.mark.parametrize("exponent", [-30, -15, -3, 3, 15, 30])
def test_the_duality_map_does_not_depend_on_the_scale_of_the_gradient(norm, shapes, exponent):
    for shape in shapes:
        g = gaussian(shape, seed=1)
        d, scaled = norm.duality_map(g), norm.duality_map(g * 10.0**exponent)
        torch.testing.assert_close(scaled, d, rtol=0, atol=1e-12)


@EVERY_NORM
def test_the_penalized_step_beats_a_thousand_competitors_and_has_the_known_optimal_value(norm, shapes):
    alpha = 0.7
    for i, shape in enumerate(shapes[-2:]):
        g = gaussian(shape, seed=i)
        generator = torch.Generator().manual_seed(i)

        def objective(u: Tensor, g: Tensor = g) -> float:
            return float((g * u).sum() + norm(u) ** 2 / alpha)

        step = penalized_step(norm, g, alpha)
        best = objective(step)
        assert best == pytest.approx(-alpha / 4 * float(norm.dual_norm(g)) ** 2, rel=1e-12)
        for k in range(500):
            noise = torch.randn(shape, generator=generator, dtype=torch.float64) * step.abs().amax()
            assert objective(noise) >= best
            assert objective(step + noise * 10.0 ** (-k % 8)) >= best - 1e-12 * abs(best)


@BOTH_DTYPES
@EVERY_NORM
@given(data=st.data(), alpha=st.floats(1e-3, 10))
def test_the_optimal_value_is_minus_a_quarter_alpha_dual_norm_squared(norm, shapes, dtype, data, alpha):
    (g,) = (g.to(dtype) for g in data.draw(tensors(shapes)))
    u = penalized_step(norm, g, alpha)
    value = inner(g, u) + float(norm(u)) ** 2 / alpha
    assert value == pytest.approx(-alpha / 4 * float(norm.dual_norm(g)) ** 2, rel=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@EVERY_NORM
def test_shape_and_dtype_are_kept_and_half_precision_is_taken(norm, shapes, dtype):
    for shape in shapes:
        g = gaussian(shape, seed=2).to(dtype)
        d = norm.duality_map(g)
        assert (d.shape, d.dtype) == (g.shape, dtype)
        assert norm(g).shape == norm.dual_norm(g).shape == ()
        assert norm(g).dtype == norm.dual_norm(g).dtype == dtype
        assert float(norm(d)) == pytest.approx(1, rel=8 * torch.finfo(dtype).eps)
        assert inner(g, d) == pytest.approx(float(norm.dual_norm(g)), rel=16 * torch.finfo(dtype).eps)


@EVERY_NORM
def test_a_gradient_need_not_be_contiguous(norm, shapes):
    for shape in shapes:
        g = gaussian(shape, seed=3)
        if g.ndim < 2:
            continue
        strided = g.transpose(0, -1).contiguous().transpose(0, -1)
        torch.testing.assert_close(norm.duality_map(strided), norm.duality_map(g), rtol=0, atol=1e-12)
        torch.testing.assert_close(norm.dual_norm(strided), norm.dual_norm(g))


@pytest.mark.parametrize(
    ("norm", "shapes"),
    [*NORMS, pytest.param(Spectral(), MATRICES, id="iterative"), pytest.param(Flattened(Spectral()), KERNELS, id="it")],
)
def test_the_maps_of_a_list_are_the_maps_one_by_one(norm, shapes):
    gs = [gaussian(shape, seed) for seed, shape in enumerate([*shapes, *reversed(shapes), *shapes])]
    gs[1] = gs[1].float()
    gs[2] = torch.zeros_like(gs[2])
    gs.append(gs[0].transpose(0, -1) if gs[0].ndim else gs[0])
    maps = norm.duality_maps(gs)
    assert len(maps) == len(gs)
    for g, d in zip(gs, maps, strict=True):
        alone = norm.duality_map(g)
        assert (d.shape, d.dtype) == (alone.shape, alone.dtype)
        torch.testing.assert_close(d, alone, rtol=0, atol=20 * TOLERANCE[g.dtype])


@EVERY_NORM
def test_the_maps_of_no_gradients_are_none(norm, shapes):
    assert norm.duality_maps([]) == []


@EVERY_NORM
def test_inputs_are_not_changed_and_results_share_no_memory_with_them(norm, shapes):
    for shape in shapes:
        g = gaussian(shape, seed=4)
        before = g.clone()
        results = [norm(g), norm.dual_norm(g), norm.duality_map(g), *norm.duality_maps([g, g])]
        results.append(penalized_step(norm, g, alpha=0.1))
        for result in results:
            result.fill_(math.nan)
        assert torch.equal(g, before)


@EVERY_NORM
def test_norms_are_equal_by_value_and_can_be_keys(norm, shapes):
    twin = copy.deepcopy(norm)
    assert twin == norm
    assert hash(twin) == hash(norm)
    assert {norm: 1}[twin] == 1
    assert pickle.loads(pickle.dumps(norm)) == norm


def test_different_norms_are_different():
    norms: list[Norm] = [norm for norm, _ in CASES.values()]
    norms += [Spectral(), Scaled(LInf(), by=0.5), Flattened(Spectral())]
    assert len(set(norms)) == len(norms)


@EVERY_NORM
def test_a_norm_has_no_state_to_change(norm, shapes):
    with pytest.raises((AttributeError, TypeError)):
        norm.something = 1
