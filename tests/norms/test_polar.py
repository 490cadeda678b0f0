from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steepest.norms import Flattened, Spectral, polar_factor

SHAPES = [(8, 8), (64, 64), (64, 16), (16, 64), (200, 10), (10, 200), (1, 7), (7, 1), (3, 20, 30), (2, 3, 12, 5)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def gaussian(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
    d = polar_factor(gaussian(shape), exact=True)
    gram = d.mT @ d if shape[-2] > shape[-1] else d @ d.mT
    torch.testing.assert_close(gram, torch.eye(min(shape[-2:]), dtype=torch.float64).expand_as(gram))


def test_singular_values_that_are_zero_stay_zero_in_the_exact_polar_factor():
    g = gaussian((6, 2)) @ gaussian((2, 5), seed=1)
    values = torch.linalg.svdvals(polar_factor(g, exact=True))
    torch.testing.assert_close(values, torch.tensor([1, 1, 0, 0, 0], dtype=torch.float64), rtol=0, atol=1e-12)


@BOTH_DTYPES
@EVERY_SHAPE
def test_the_iterative_polar_factor_has_singular_values_near_one(shape, dtype):
    for seed in range(5):
        values = torch.linalg.svdvals(polar_factor(gaussian(shape, seed).to(dtype)))
        assert float(values[..., 0].amin()) >= 0.85
        assert float(values.amax()) <= 1.15


@BOTH_DTYPES
@EVERY_SHAPE
def test_the_iterative_polar_factor_attains_most_of_the_dual_norm(shape, dtype):
    for seed in range(5):
        g = gaussian(shape, seed)
        d = polar_factor(g.to(dtype)).double()
        nuclear, spectral = torch.linalg.svdvals(g).sum(), torch.linalg.svdvals(d).amax()
        assert float((g * d).sum() / (nuclear * spectral)) >= 0.85


@pytest.mark.parametrize("small", [1.0, 0.1, 1e-2, 2e-3])
def test_the_iterative_polar_factor_lifts_small_singular_values_and_keeps_the_singular_vectors(small):
    u, v = (torch.linalg.qr(gaussian((6, 6), seed)).Q for seed in (0, 1))
    g = u @ torch.diag(torch.tensor([1, 1, 0.5, 0.3, small, small], dtype=torch.float64)) @ v.T
    middle = u.T @ polar_factor(g) @ v
    torch.testing.assert_close(middle, torch.diag(middle.diagonal()), rtol=0, atol=1e-10)
    assert 0.85 <= float(middle.diagonal().min()) <= float(middle.diagonal().max()) <= 1.15


@pytest.mark.parametrize("exponent", [-30, -5, 5, 30])
@BOTH_DTYPES
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "iterative"])
def test_the_polar_factor_does_not_depend_on_the_scale_of_the_matrix(exact, dtype, exponent):
    g = gaussian((5, 7)).to(dtype)
    scaled = (g.double() * 10.0**exponent).to(dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5}[dtype]
    torch.testing.assert_close(polar_factor(scaled, exact), polar_factor(g, exact), rtol=0, atol=tolerance)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "iterative"])
def test_a_zero_matrix_has_the_polar_factor_zero_also_within_a_stack(exact):
    g = gaussian((3, 4, 5))
    g[1] = 0
    d = polar_factor(g, exact)
    assert not d[1].any()
    torch.testing.assert_close(d[2], polar_factor(g[2], exact))


@EVERY_SHAPE
def test_the_iterative_dual_norm_is_what_the_map_attains_and_never_more_than_the_nuclear_norm(shape):
    g, norm = gaussian(shape), Spectral()
    d = norm.duality_map(g)
    attained = float(norm.dual_norm(g))
    assert attained == pytest.approx(float((g * d).sum() / norm(d)), rel=1e-12)
    assert 0.85 * float(Spectral(exact=True).dual_norm(g)) <= attained
    assert attained <= float(Spectral(exact=True).dual_norm(g)) * (1 + 1e-12)


def test_the_iterative_dual_norm_of_zero_is_zero():
    assert float(Spectral().dual_norm(torch.zeros(3, 4))) == 0


def test_a_channels_last_kernel_has_the_iterative_map_of_a_contiguous_one():
    kernel = gaussian((16, 2, 2, 2))
    d = Flattened(Spectral()).duality_map(kernel.to(memory_format=torch.channels_last))
    torch.testing.assert_close(d, Flattened(Spectral()).duality_map(kernel))
