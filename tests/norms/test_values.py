"""The norms and their steps against numbers that were worked out independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

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
    Nuclear,
    Scaled,
    Schatten,
    Spectral,
    Split,
    constrained_step,
    objective,
    penalized_step,
)

ENTRIES = st.floats(-1e3, 1e3).filter(lambda value: value == 0 or abs(value) > 1e-6)
FEW = settings(max_examples=12)
VECTORS = npst.arrays(np.float64, npst.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=ENTRIES)
MATRICES = npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=ENTRIES)


def singular_values(g: np.ndarray) -> np.ndarray:
    """From the eigenvalues of the symmetric matrix [[0, g], [g', 0]], without any SVD."""
    rows, columns = g.shape
    both = np.block([[np.zeros((rows, rows)), g], [g.T, np.zeros((columns, columns))]])
    return np.sort(np.linalg.eigvalsh(both))[::-1][: min(rows, columns)]


@FEW
@given(g=VECTORS)
def test_l2_is_the_root_of_the_sum_of_squares_and_its_own_dual(g):
    expected = np.sqrt((g**2).sum())
    x = torch.tensor(g)
    assert float(L2()(x)) == pytest.approx(expected, rel=1e-12)
    assert float(L2().dual_norm(x)) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(L2().duality_map(x), g / (expected or 1), rtol=1e-12)


@FEW
@given(g=VECTORS)
def test_linf_is_the_largest_entry_and_its_dual_the_sum_of_all(g):
    x = torch.tensor(g)
    assert float(LInf()(x)) == np.abs(g).max()
    assert float(LInf().dual_norm(x)) == pytest.approx(np.abs(g).sum(), rel=1e-12)
    np.testing.assert_array_equal(LInf().duality_map(x), np.sign(g))


@FEW
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


@FEW
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


# The determinant of G is 2, its squared Frobenius norm 14, so its singular values are
# (sqrt(14 + 4) +- sqrt(14 - 4)) / 2.
LARGE_VALUE, SMALL_VALUE = (18**0.5 + 10**0.5) / 2, (18**0.5 - 10**0.5) / 2
DIAGONAL = torch.tensor([2.0, 0.5], dtype=torch.float64)
# norm -> ||G||_*
DUALS = {
    "L1": (L1(), 3.0),
    "L2": (L2(), 14**0.5),
    "LInf": (LInf(), 6.0),
    "Lp(1.5)": (Lp(1.5), (27 + 1 + 8) ** (1 / 3)),
    "Lp(3)": (Lp(3), (3**1.5 + 1 + 2**1.5) ** (2 / 3)),
    "Ellipsoid": (Ellipsoid(DIAGONAL), (2 * 9 + 0.5 * 1 + 2 * 4) ** 0.5),
    "Spectral": (Spectral(exact=True), 18**0.5),
    "Nuclear": (Nuclear(), LARGE_VALUE),
    "Schatten(1.5)": (Schatten(1.5), (LARGE_VALUE**3 + SMALL_VALUE**3) ** (1 / 3)),
    "Schatten(2)": (Schatten(2), 14**0.5),
    "MaxRow": (MaxRow(), 10**0.5 + 2),
    "MaxColumn": (MaxColumn(), 13**0.5 + 1),
    "Scaled": (Scaled(LInf(), by=4.0), 1.5),
    "Split": (Split(L2(), 2), 10**0.5 + 2),
    "Split, dim 1": (Split(LInf(), 2, dim=1), 6.0),
    "Flattened": (Flattened(Spectral(exact=True)), 18**0.5),
}
ALL = pytest.mark.parametrize(("norm", "dual"), DUALS.values(), ids=DUALS)


@ALL
def test_any_norms_step_is_minus_half_alpha_times_the_dual_norm_times_the_duality_map(norm, dual):
    assert float(norm.dual_norm(G)) == pytest.approx(dual, abs=1e-12)
    u = penalized_step(norm, G, ALPHA)
    torch.testing.assert_close(u, -(ALPHA / 2) * dual * norm.duality_map(G), rtol=0, atol=1e-12)
    assert optimal_value(norm, u) == pytest.approx(-(ALPHA / 4) * dual**2, abs=1e-12)
    assert float(objective(norm, G, u, ALPHA)) == pytest.approx(-(ALPHA / 4) * dual**2, abs=1e-12)
    assert float((G * constrained_step(norm, G, 0.5)).sum()) == pytest.approx(-0.5 * dual, abs=1e-12)


@pytest.mark.parametrize(("combine", "dual"), [("max", 6.0 + 14**0.5), ("l2", (36 + 14) ** 0.5), ("sum", 6.0)])
def test_so_does_a_networks(combine, dual):
    norm = Blockwise({"a": LInf(), "b": L2()}, combine)
    g = {"a": G, "b": G}
    u, d = penalized_step(norm, g, ALPHA), norm.duality_map(g)
    for name in g:
        torch.testing.assert_close(u[name], -(ALPHA / 2) * dual * d[name], rtol=0, atol=1e-12)
    assert float(objective(norm, g, u, ALPHA)) == pytest.approx(-(ALPHA / 4) * dual**2, abs=1e-12)


@ALL
def test_at_zero_both_steps_are_zero(norm, dual):
    zero = torch.zeros(2, 2, dtype=torch.float64)
    assert torch.equal(penalized_step(norm, zero, ALPHA), zero)
    assert torch.equal(constrained_step(norm, zero, 0.5), zero)


def test_the_duality_maps_of_a_known_matrix():
    sign, row, column = torch.sign(G), 10**0.5, 13**0.5
    maps = {
        L1(): [[1, 0], [0, 0]],
        LInf(): sign.tolist(),
        Lp(1.5): (sign * G**2 / 36 ** (2 / 3)).tolist(),
        MaxRow(): [[3 / row, -1 / row], [1, 0]],
        MaxColumn(): [[3 / column, -1], [2 / column, 0]],
        Ellipsoid(DIAGONAL): [[6 / 26.5**0.5, -0.5 / 26.5**0.5], [4 / 26.5**0.5, 0]],
    }
    for norm, d in maps.items():
        torch.testing.assert_close(norm.duality_map(G), torch.tensor(d, dtype=torch.float64), rtol=0, atol=1e-12)


@FEW
@given(g=MATRICES, p=st.sampled_from([1.5, 3.0, 10.0]))
def test_nuclear_and_schatten_norms_are_norms_of_the_singular_values(g, p):
    values, x = singular_values(g), torch.tensor(g)
    scale = values[0] or 1
    q = p / (p - 1)
    assert float(Nuclear()(x)) == pytest.approx(values.sum(), abs=1e-11 * scale)
    assert float(Nuclear().dual_norm(x)) == pytest.approx(values[0], abs=1e-12 * scale)
    relative = np.clip(values / scale, 0, None)
    assert float(Schatten(p)(x)) / scale == pytest.approx((relative**p).sum() ** (1 / p), abs=1e-10)
    assert float(Schatten(p).dual_norm(x)) / scale == pytest.approx((relative**q).sum() ** (1 / q), abs=1e-10)


@FEW
@given(g=MATRICES)
def test_row_and_column_norms_are_the_largest_and_their_duals_the_sum(g):
    rows, x = np.sqrt((g**2).sum(1)), torch.tensor(g)
    assert float(MaxRow()(x)) == pytest.approx(rows.max(), rel=1e-12)
    assert float(MaxRow().dual_norm(x)) == pytest.approx(rows.sum(), rel=1e-12)
    assert float(MaxColumn()(x.T)) == pytest.approx(rows.max(), rel=1e-12)
    assert float(MaxColumn().dual_norm(x.T)) == pytest.approx(rows.sum(), rel=1e-12)


@pytest.mark.parametrize("side", [127, 128, 140])
@pytest.mark.parametrize("norm", [Spectral(exact=True), Nuclear(), Schatten(4)], ids=str)
def test_large_float32_matrices_have_the_norms_and_maps_of_float64(norm, side):
    for shape in [(side, side), (side, side + 50), (side + 50, side)]:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) / side
        assert float(norm(x)) == pytest.approx(float(norm(x.double())), rel=1e-6)
        assert float(norm.dual_norm(x)) == pytest.approx(float(norm.dual_norm(x.double())), rel=1e-6)
        torch.testing.assert_close(norm.duality_map(x).double(), norm.duality_map(x.double()), rtol=0, atol=1e-6)


# Section 3 of the reference workloads: Adam's and RMSProp's updates are penalised steps in an ellipsoid.
W = torch.linspace(-0.4, 0.6, 20, dtype=torch.float64).view(4, 5)
COURSE_GRADIENT = torch.linspace(-0.6, 0.4, 20, dtype=torch.float64).view(4, 5)


def line(start: float, end: float) -> torch.Tensor:
    return torch.linspace(start, end, 20, dtype=torch.float64).view(4, 5)


def test_adams_update_is_the_penalised_step_in_the_ellipsoid_of_its_second_moment():
    lr, m, v = 1e-2, line(0.6, 0.9), line(0.7, 0.5)
    w = torch.nn.Parameter(W.clone())
    adam = torch.optim.Adam([w], lr=lr)
    adam.state[w].update(step=torch.tensor(5.0), exp_avg=m.clone(), exp_avg_sq=v.clone())
    w.grad = COURSE_GRADIENT
    adam.step()
    m, v = 0.9 * m + 0.1 * COURSE_GRADIENT, 0.999 * v + 0.001 * COURSE_GRADIENT**2
    norm = Ellipsoid(1 / ((v / (1 - 0.999**6)).sqrt() + 1e-8))
    ours = W + penalized_step(norm, m / (1 - 0.9**6), alpha=2 * lr)
    torch.testing.assert_close(ours, w.detach(), rtol=0, atol=1e-12)
    assert float(ours[0, 0]) == pytest.approx(-0.40094747, abs=5e-9)
    assert float(ours[-1, -1]) == pytest.approx(0.59801459, abs=5e-9)


def test_rmsprops_update_is_the_penalised_step_in_the_ellipsoid_of_its_cache():
    lr, cache = 1e-2, line(0.6, 0.9)
    w = torch.nn.Parameter(W.clone())
    rmsprop = torch.optim.RMSprop([w], lr=lr, alpha=0.99)
    rmsprop.state[w].update(step=torch.tensor(5.0), square_avg=cache.clone())
    w.grad = COURSE_GRADIENT
    rmsprop.step()
    cache = 0.99 * cache + 0.01 * COURSE_GRADIENT**2
    ours = W + penalized_step(Ellipsoid(1 / (cache.sqrt() + 1e-8)), COURSE_GRADIENT, alpha=2 * lr)
    torch.testing.assert_close(ours, w.detach(), rtol=0, atol=1e-12)
    assert float(ours[0, 0]) == pytest.approx(-0.39223849, abs=5e-9)
    assert float(ours[-1, -1]) == pytest.approx(0.59576619, abs=5e-9)
