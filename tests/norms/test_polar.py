"""The polar factor: how well it aligns, on each way to compute it."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.norms.points import gaussian

import steepest.norms._polar.factor as polar
from steepest.norms import ProductSpeed, polar_factor

SHAPES = [(8, 8), (64, 64), (64, 16), (16, 64), (200, 10), (10, 200), (1, 7), (7, 1), (3, 20, 30), (2, 3, 12, 5)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
BOTH_WAYS = pytest.mark.parametrize("exact", [True, False], ids=["exact", "iterative"])

LARGE = [(256, 256), (256, 1024), (1024, 256)]
LARGEST = [pytest.param(shape, marks=pytest.mark.slow) for shape in ((512, 2048), (768, 3072))]
SMALL = [(64, 64), (64, 128), (128, 64)]
# Of the same ways, at sides where bfloat16 and the Gram form are chosen too.
MIDDLE = [(128, 128), (128, 512), (512, 128)]
CONDITIONS = [1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7]
# What a device may be measured to be: bfloat16's time over float32's, float32's error.
DEVICES = {
    "float32": ProductSpeed("cpu", bfloat16_time=9.0, float32_error=1e-7),
    "bfloat16": ProductSpeed("cpu", bfloat16_time=0.5, float32_error=1e-7),
    "tensor float": ProductSpeed("cpu", bfloat16_time=9.0, float32_error=1e-3),
}


@functools.cache
def singular_vectors(shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = shape
    short = min(shape)
    return torch.linalg.qr(gaussian((rows, short), 0)).Q, torch.linalg.qr(gaussian((columns, short), 1)).Q.T


def with_values(shape: tuple[int, int], values: torch.Tensor) -> torch.Tensor:
    u, vh = singular_vectors(shape)
    return (u * values) @ vh


def log_uniform(n: int, condition: float) -> torch.Tensor:
    return torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)


def alignment(g: torch.Tensor, o: torch.Tensor, nuclear: float | None = None) -> float:
    """<g, o> / (||g||_* ||o||_2), in float64."""
    o = o.double()
    gram = o @ o.T if o.shape[0] <= o.shape[1] else o.T @ o
    spectral = math.sqrt(float(torch.linalg.eigvalsh(gram)[-1]))
    nuclear = float(torch.linalg.svdvals(g).sum()) if nuclear is None else nuclear
    return float((g * o).sum()) / (nuclear * spectral)


def alignments(shape: tuple[int, int], conditions: list[float], exact: bool = False) -> list[float]:
    found = []
    for condition in conditions:
        values = log_uniform(min(shape), condition)
        g = with_values(shape, values)
        found.append(alignment(g, polar_factor(g.float(), exact), float(values.sum())))
    return found


@functools.cache
def on_this_device(shape: tuple[int, int]) -> list[float]:
    return alignments(shape, CONDITIONS)


@pytest.mark.parametrize("shape", [*LARGE, *LARGEST], ids=str)
def test_on_this_device_large_matrices_of_any_condition_are_aligned(shape):
    assert min(on_this_device(shape)[:2]) >= 0.87
    assert min(on_this_device(shape)[2:]) >= 0.86


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_on_this_device_large_gaussian_matrices_are_aligned(shape):
    g = gaussian(shape, seed=3)
    assert alignment(g, polar_factor(g.float())) >= 0.97


@pytest.mark.parametrize("shape", [*LARGE, *LARGEST, *SMALL], ids=str)
def test_on_this_device_the_alignment_is_better_than_has_to_be(shape):
    assert min(on_this_device(shape)) >= 0.97


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_on_this_device_small_matrices_of_any_condition_are_aligned(shape):
    g = gaussian(shape, seed=3)
    assert min(*on_this_device(shape), alignment(g, polar_factor(g.float()))) >= 0.82


@pytest.mark.parametrize("speed", DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("shape", MIDDLE, ids=str)
def test_on_every_device_matrices_of_any_condition_are_aligned(shape, speed, monkeypatch):
    monkeypatch.setattr(polar, "product_speed", lambda *_: speed)
    g = gaussian(shape, seed=3)
    found = [*alignments(shape, CONDITIONS), alignment(g, polar_factor(g.float()))]
    assert min(found) >= 0.97


@pytest.mark.parametrize(
    ("name", "dtype", "lifts"),
    [("float32", torch.float32, 0), ("bfloat16", torch.bfloat16, 3), ("tensor float", torch.float32, 3)],
)
def test_the_device_decides_on_the_dtype_and_on_how_many_steps_precede_the_gram_matrix(name, dtype, lifts, monkeypatch):
    taken = []
    monkeypatch.setattr(polar, "product_speed", lambda *_: DEVICES[name])
    monkeypatch.setattr(polar, "_plausible", lambda x, *way: taken.append(way) or x)
    for g in (gaussian((128, 512), 0).float(), gaussian((128, 512), 0).bfloat16()):
        polar_factor(g)
    assert taken == [(dtype, lifts)] * 2
    taken.clear()
    polar_factor(gaussian((128, 512), 0))
    polar_factor(gaussian((64, 65), 0).bfloat16())
    polar_factor(gaussian((128, 130), 0))
    # float64 stays float64, small matrices float32, and nearly square ones never take the Gram form.
    assert taken == [(torch.float64, 0), (torch.float32, 5), (torch.float64, 5)]


def spike(n: int) -> torch.Tensor:
    return torch.cat([torch.ones(1), torch.full((n - 1,), 0.05)]).double()


def rank(n: int, r: int) -> torch.Tensor:
    return (torch.arange(n) < r).double()


HARD = {
    "rank 1": lambda n: rank(n, 1),
    "rank 8": lambda n: rank(n, 8),
    "half of them a hundredth": lambda n: torch.where(torch.arange(n) < n // 2, 1.0, 0.01).double(),
    "1/k": lambda n: 1 / torch.arange(1, n + 1).double(),
    "1/k^2": lambda n: 1 / torch.arange(1, n + 1).double() ** 2,
    "a spike on a flat bulk": spike,
    "twelve decades": lambda n: log_uniform(n, 1e12),
}


@pytest.mark.slow  # the next one has the same spectra, at sides that take the same ways
@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
def test_on_this_device_hard_spectra_are_aligned(values, shape):
    s = values(min(shape))
    g = with_values(shape, s)
    assert alignment(g, polar_factor(g.float()), float(s.sum())) >= 0.95


@pytest.mark.parametrize("speed", DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("shape", MIDDLE, ids=str)
@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
def test_on_every_device_hard_spectra_are_aligned(values, shape, speed, monkeypatch):
    monkeypatch.setattr(polar, "product_speed", lambda *_: speed)
    s = values(min(shape))
    g = with_values(shape, s)
    assert alignment(g, polar_factor(g.float()), float(s.sum())) >= 0.95


@pytest.mark.parametrize("shape", [*LARGE[1:], *LARGEST, *SMALL], ids=str)
def test_the_exact_polar_factor_is_aligned_at_every_condition(shape):
    conditions = CONDITIONS if max(shape) < 256 else CONDITIONS[:1] + CONDITIONS[-1:]
    assert min(alignments(shape, conditions, exact=True)) >= 0.9999


def by_newton(g: torch.Tensor) -> torch.Tensor:
    """The polar factor of an invertible matrix by Newton's iteration x <- (x + x^-T) / 2, without any SVD."""
    for _ in range(60):
        g = (g + torch.linalg.inv(g).mT) / 2
    return g


@given(seed=st.integers(0, 10**6))
def test_the_exact_polar_factor_of_an_invertible_matrix_is_the_limit_of_newtons_iteration(seed):
    g = gaussian((4, 4), seed) + 3 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(polar_factor(g, exact=True), by_newton(g), rtol=0, atol=1e-10)


@EVERY_SHAPE
def test_the_exact_polar_factor_is_orthonormal_along_the_short_side(shape):
    d = polar_factor(gaussian(shape, 0), exact=True)
    gram = d.mT @ d if shape[-2] > shape[-1] else d @ d.mT
    torch.testing.assert_close(gram, torch.eye(min(shape[-2:]), dtype=torch.float64).expand_as(gram))


@BOTH_DTYPES
@pytest.mark.parametrize("shape", [(6, 5), (5, 6), (140, 130), (130, 200)], ids=str)
def test_singular_values_that_are_zero_stay_zero_in_the_exact_polar_factor(shape, dtype):
    g = gaussian((shape[0], 2), 0) @ gaussian((2, shape[1]), 1)
    values = torch.linalg.svdvals(polar_factor(g.to(dtype), exact=True).double())
    expected = rank(min(shape), 2)
    torch.testing.assert_close(values, expected, rtol=0, atol={torch.float64: 1e-12, torch.float32: 1e-5}[dtype])


@BOTH_DTYPES
@EVERY_SHAPE
def test_the_iterative_polar_factor_has_singular_values_near_one(shape, dtype):
    for seed in range(5):
        values = torch.linalg.svdvals(polar_factor(gaussian(shape, seed).to(dtype)))
        assert float(values[..., 0].amin()) >= 0.85
        assert float(values.amax()) <= 1.15


@pytest.mark.parametrize("small", [1.0, 0.1, 1e-2, 6e-3])
def test_the_iterative_polar_factor_lifts_small_singular_values_and_keeps_the_singular_vectors(small):
    values = torch.tensor([1, 1, 0.5, 0.3, small, small], dtype=torch.float64)
    u, vh = singular_vectors((6, 6))
    middle = u.T @ polar_factor(with_values((6, 6), values)) @ vh.T
    torch.testing.assert_close(middle, torch.diag(middle.diagonal()), rtol=0, atol=1e-10)
    assert 0.85 <= float(middle.diagonal().min()) <= float(middle.diagonal().max()) <= 1.15


@pytest.mark.parametrize(("dtype", "exponents"), [(torch.float64, (-30, 30)), (torch.float32, (-18, 18))], ids=str)
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (5, 5), (130, 140), (130, 300)], ids=str)
@BOTH_WAYS
def test_the_polar_factor_does_not_depend_on_the_scale_of_the_matrix(exact, shape, dtype, exponents):
    g = gaussian(shape, 0).to(dtype)
    expected = polar_factor(g, exact)
    for exponent in exponents:
        # A power of two rounds nothing.
        scaled = g * 2.0 ** round(exponent * math.log2(10))
        torch.testing.assert_close(polar_factor(scaled, exact), expected, rtol=0, atol=1e-6 if exact else 0)


@BOTH_WAYS
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5, 4), (2, 2, 130, 140)], ids=str)
def test_a_stack_has_the_factors_of_its_matrices_and_a_zero_matrix_within_it_zero(shape, exact):
    g = gaussian(shape, 0)
    g[1] = 0
    d = polar_factor(g, exact)
    assert not d[1].any()
    torch.testing.assert_close(d[0], polar_factor(g[0], exact), rtol=0, atol=1e-12)
    assert not polar_factor(g[1], exact).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(4, 5), (130, 150)], ids=str)
@BOTH_WAYS
def test_the_polar_factor_keeps_shape_and_dtype_and_its_input(exact, shape, dtype):
    g = gaussian(shape, 0).to(dtype)
    before = g.clone()
    d = polar_factor(g, exact)
    assert (d.shape, d.dtype) == (g.shape, dtype)
    assert alignment(before.double(), d) >= 0.97
    d.fill_(math.nan)
    assert torch.equal(g, before)


@BOTH_WAYS
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0, 2, 3)], ids=str)
def test_an_empty_matrix_has_an_empty_polar_factor(shape, exact):
    assert polar_factor(torch.zeros(shape), exact).shape == shape


@pytest.mark.parametrize(
    ("values", "depths"),
    [
        (torch.logspace(0, -7, 128).double(), [5]),
        (rank(128, 2), [5]),
        (torch.arange(1, 129).double() ** -2, [5]),
        (torch.cat([torch.ones(1), torch.full((399,), 1e-3)]).double(), [5, 7]),
    ],
    ids=["any condition", "rank 2", "squares", "a spike and a bulk"],
)
def test_where_much_of_a_matrix_may_be_small_it_takes_more_steps(values, depths, monkeypatch):
    taken = []
    iterate = polar.iterate
    monkeypatch.setattr(polar, "iterate", lambda x, s, *way: taken.append(len(s.polynomials)) or iterate(x, s, *way))
    g = with_values((len(values), len(values) + 8), values)
    assert alignment(g, polar_factor(g.float())) >= 0.95
    assert taken == depths


def test_without_the_second_look_a_low_bulk_would_be_missed(monkeypatch):
    g = with_values((400, 408), torch.cat([torch.ones(1), torch.full((399,), 1e-3)]).double())
    monkeypatch.setattr(polar, "_doubtful", lambda *_: torch.zeros(0, dtype=torch.int64))
    assert alignment(g, polar_factor(g.float())) < 0.85


def test_what_no_iteration_makes_sure_is_computed_exactly(monkeypatch):
    monkeypatch.setattr(polar, "_ALIGNED", 0.9999)
    g = gaussian((20, 30), seed=1)
    torch.testing.assert_close(polar_factor(g), polar_factor(g, exact=True), rtol=0, atol=1e-12)


def test_a_matrix_in_a_stack_is_looked_at_by_itself():
    easy, hard, zero = gaussian((40, 48), seed=1), with_values((40, 48), rank(40, 1) + 1e-4), torch.zeros(40, 48)
    together = polar_factor(torch.stack([easy, hard, zero.double()]))
    for one, d in zip((easy, hard, zero.double()), together, strict=True):
        torch.testing.assert_close(d, polar_factor(one), rtol=0, atol=1e-12)


def test_nan_stays_nan():
    g = gaussian((4, 5), seed=1)
    g[0, 0] = torch.nan
    assert polar_factor(g).isnan().any()
