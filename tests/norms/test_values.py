"""The norms and their steps against numbers that were worked out independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from steepest.norms import L2, Flattened, LInf, Scaled, Spectral, constrained_step, penalized_step

ENTRIES = st.floats(-1e3, 1e3).filter(lambda value: value == 0 or abs(value) > 1e-6)
VECTORS = npst.arrays(np.float64, npst.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=ENTRIES)
MATRICES = npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=ENTRIES)


def singular_values(g: np.ndarray) -> np.ndarray:
    """From the eigenvalues of the symmetric matrix [[0, g], [g', 0]], without any SVD."""
    rows, columns = g.shape
    both = np.block([[np.zeros((rows, rows)), g], [g.T, np.zeros((columns, columns))]])
    return np.sort(np.linalg.eigvalsh(both))[::-1][: min(rows, columns)]


@given(g=VECTORS)
def test_l2_is_the_root_of_the_sum_of_squares_and_its_own_dual(g):
    expected = np.sqrt((g**2).sum())
    x = torch.tensor(g)
    assert float(L2()(x)) == pytest.approx(expected, rel=1e-12)
    assert float(L2().dual_norm(x)) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(L2().duality_map(x), g / (expected or 1), rtol=1e-12)


@given(g=VECTORS)
def test_linf_is_the_largest_entry_and_its_dual_the_sum_of_all(g):
    x = torch.tensor(g)
    assert float(LInf()(x)) == np.abs(g).max()
    assert float(LInf().dual_norm(x)) == pytest.approx(np.abs(g).sum(), rel=1e-12)
    np.testing.assert_array_equal(LInf().duality_map(x), np.sign(g))


@given(g=MATRICES)
def test_spectral_is_the_largest_singular_value_and_its_dual_their_sum(g):
    values = singular_values(g)
    scale = values[0] or 1
    norm = Spectral(exact=True)
    assert float(norm(torch.tensor(g))) == pytest.approx(values[0], abs=1e-12 * scale)
    assert float(norm.dual_norm(torch.tensor(g))) == pytest.approx(values.sum(), abs=1e-11 * scale)


def test_a_stack_of_matrices_is_combined_by_max_and_its_dual_by_sum():
    g = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norm = Spectral(exact=True)
    singly = [norm(matrix) for stack in g for matrix in stack]
    dual = [norm.dual_norm(matrix) for stack in g for matrix in stack]
    torch.testing.assert_close(norm(g), torch.stack(singly).max())
    torch.testing.assert_close(norm.dual_norm(g), torch.stack(dual).sum())
    for stack, maps in zip(g, norm.duality_map(g), strict=True):
        for matrix, d in zip(stack, maps, strict=True):
            torch.testing.assert_close(d, norm.duality_map(matrix))


@given(g=MATRICES, by=st.floats(0.01, 100))
def test_scaled_multiplies_the_norm_and_divides_the_dual_and_the_map(g, by):
    x, scaled = torch.tensor(g), Scaled(LInf(), by=by)
    assert float(scaled(x)) == pytest.approx(by * float(LInf()(x)), rel=1e-12)
    assert float(scaled.dual_norm(x)) == pytest.approx(float(LInf().dual_norm(x)) / by, rel=1e-12)
    torch.testing.assert_close(scaled.duality_map(x), LInf().duality_map(x) / by)


def test_flattened_reads_a_kernel_as_the_matrix_out_by_in_times_kernel():
    kernel = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix, inner = kernel.reshape(4, 12), Spectral(exact=True)
    flattened = Flattened(inner)
    for given_kernel in (kernel, kernel.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(flattened(given_kernel), inner(matrix))
        torch.testing.assert_close(flattened.dual_norm(given_kernel), inner.dual_norm(matrix))
        torch.testing.assert_close(flattened.duality_map(given_kernel), inner.duality_map(matrix).view(4, 3, 2, 2))


# Section 1 of the reference workloads: u = argmin <g, u> + (1/alpha) ||u||^2.
G = torch.tensor([[3.0, -1.0], [2.0, 0.0]], dtype=torch.float64)
ALPHA = 0.3


def optimal_value(norm, u):
    return float((G * u).sum() + norm(u) ** 2 / ALPHA)


def test_the_l2_step_is_minus_half_alpha_times_the_gradient():
    u = penalized_step(L2(), G, ALPHA)
    torch.testing.assert_close(u, -(ALPHA / 2) * G, rtol=0, atol=1e-12)
    assert optimal_value(L2(), u) == pytest.approx(-(ALPHA / 4) * 14, abs=1e-12)


def test_the_linf_step_is_minus_half_alpha_times_the_l1_norm_times_the_sign():
    u = penalized_step(LInf(), G, ALPHA)
    torch.testing.assert_close(u, -(ALPHA / 2) * 6 * torch.sign(G), rtol=0, atol=1e-12)
    assert optimal_value(LInf(), u) == pytest.approx(-(ALPHA / 4) * 36, abs=1e-12)


def test_the_spectral_step_is_minus_half_alpha_times_the_nuclear_norm_times_the_polar_factor():
    # For a 2 x 2 matrix with determinant > 0 the polar factor is the rotation g + adj(g)', normalised.
    rotation = torch.tensor([[3.0 + 0.0, -1.0 - 2.0], [2.0 + 1.0, 0.0 + 3.0]], dtype=torch.float64) / 18**0.5
    u = penalized_step(Spectral(exact=True), G, ALPHA)
    torch.testing.assert_close(u, -(ALPHA / 2) * 18**0.5 * rotation, rtol=0, atol=1e-12)
    assert optimal_value(Spectral(exact=True), u) == pytest.approx(-(ALPHA / 4) * 18, abs=1e-12)


@pytest.mark.parametrize("norm", [L2(), LInf(), Spectral(exact=True), Scaled(L2(), by=4.0)], ids=str)
def test_at_zero_both_steps_are_zero(norm):
    zero = torch.zeros(2, 2, dtype=torch.float64)
    assert torch.equal(penalized_step(norm, zero, ALPHA), zero)
    assert torch.equal(constrained_step(norm, zero, 0.5), zero)
