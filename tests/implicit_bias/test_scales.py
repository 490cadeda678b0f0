"""Equations and numbers of very different sizes and formats: right, or nothing is claimed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpmath import diag, exp, lu_solve, matrix, norm
from tests.implicit_bias.measures import digits, gap
from torch import Tensor

from steepest.implicit_bias import (
    EpochAdam,
    GradientDescent,
    Hypentropy,
    MirrorDescent,
    PNorm,
    Preconditioned,
    RescaledFeatures,
    SignDescent,
    certify,
    predict,
    simulate,
)

ONE = [[1.0, 0.5, 0.2]]
INSEPARABLE = [[1.0, 0.5], [-1.0, 0.3], [0.2, -1.0], [-0.1, 0.8]]
F64 = torch.float64


eighty_digits = digits(80)


def away(point: Tensor, exact: matrix, theta0: Tensor | None = None) -> float:
    """The distance of a point from the exact one, relative to the way there."""
    way = exact if theta0 is None else exact - matrix(theta0.tolist())
    return float(norm(matrix(point.tolist()) - exact) / norm(way))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_contradicting_equations_beside_a_huge_one_still_contradict_each_other_for_minibatches(batch_size):
    # theta_1 is to be 1 and 2 at once: minibatches never come to rest.
    A, b = [[1e9, 0, 0], [0, 1, 0], [0, 1, 0]], [1e11, 1, 2]
    assert not predict(GradientDescent(batch_size=batch_size), A, b).determined


def test_contradicting_multiples_of_one_equation_of_very_different_sizes_are_seen():
    # Two of three rows want theta = 2, and single rows count alike.
    A, b = [[1e10], [1], [1]], [1e10, 2, 2]
    prediction = predict(SignDescent(batch_size=1), A, b)
    run = simulate(SignDescent(batch_size=1), A, b, lambda t: 0.3 * 0.995**t, 6000)
    assert float(run.point) == pytest.approx(2, abs=1e-6)
    assert not prediction.determined or float(prediction.point) == pytest.approx(2, abs=1e-6)


def test_epoch_adam_with_single_rows_converges_on_multiples_of_one_equation_or_nothing_is_claimed():
    # The second moments of the epoch before, which may have come near 0, are no bound on the gradients of this one.
    rule, A, b = EpochAdam(batch_size=1), [[1, 0.1, 0.01], [2, 0.2, 0.02], [-0.3, -0.03, -0.003]], [1, 2, -0.3]
    prediction = predict(rule, A, b)
    run = simulate(rule, A, b, [lambda t: 0.1 * (t + 1) ** -0.5, lambda t: 0.1 * 0.997**t], 4000, seeds=3)
    if prediction.determined:
        for end in run.point:
            assert gap(end, prediction.point) <= 0.01


@pytest.mark.parametrize("size", [1e-6, 1e-8, 1e-10, 1e-12, 1e-14, 1e-17, 1e-30])
@pytest.mark.parametrize("rule", [GradientDescent(), GradientDescent(batch_size=1)], ids=["whole", "single"])
def test_a_tiny_equation_is_solved_or_nothing_is_claimed(rule, size):
    # The only solution in the row space is [1, 1, 0], however small the second equation is.
    prediction = predict(rule, [[1, 0, 0], [0, size, 0]], [1, size])
    assert not prediction.determined or gap(prediction.point, [1, 1, 0]) <= 1e-9
    prediction = predict(rule, [[1, 0, 0], [0, size, 0]], [1, 1])
    assert not prediction.determined or gap(prediction.point, [1, 1 / size, 0]) <= 1e-9


@pytest.mark.parametrize("size", [1e-4, 1e-6, 1e-7, 1e-8])
def test_a_tiny_equation_in_single_precision_is_solved_or_nothing_is_claimed(size):
    A = torch.tensor([[1, 0, 0], [0, size, 0]], dtype=torch.float32)
    prediction = predict(GradientDescent(), A, [1.0, 3 * float(A[1, 1])])
    assert not prediction.determined or gap(prediction.point, [1, 3, 0]) <= 1e-6


@pytest.mark.parametrize("rule", [GradientDescent(), GradientDescent(batch_size=1), RescaledFeatures()], ids=repr)
@pytest.mark.parametrize(
    ("dtype", "n"), [(torch.bfloat16, 20), (torch.bfloat16, 768), (torch.float16, 1100), (torch.float8_e4m3fn, 8)]
)
def test_wide_rows_in_half_precision_are_not_taken_for_rounding(rule, dtype, n):
    A = torch.ones(1, n).to(dtype)
    prediction = predict(rule, A, [1.0])
    assert prediction.determined, "one row that is not 0 has rank 1"
    torch.testing.assert_close(prediction.point, torch.full((n,), 1 / n, dtype=F64))


@pytest.mark.parametrize("rule", [GradientDescent(), MirrorDescent(Hypentropy(1.0)), torch.optim.SGD])
@pytest.mark.parametrize(("scale", "theta0"), [(1.0, [1000.0, 0.0]), (1000.0, [1.0, 1.0]), (1.0, [710.0, 0.0])])
def test_an_exponential_loss_that_overflows_at_the_start_is_not_taken_for_a_minimum(rule, scale, theta0):
    A, b = (scale * torch.tensor(INSEPARABLE, dtype=F64)), [1.0] * 4
    nearby = predict(GradientDescent(), INSEPARABLE, b, loss="exponential").point / scale
    prediction = predict(rule, A, b, theta0, "exponential")
    assert not certify(rule, A, b, theta0, theta0, "exponential").passed
    if prediction.determined:
        torch.testing.assert_close(prediction.point, nearby, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("rule", "A", "b", "point"),
    [
        (RescaledFeatures(), [[1.0, 1e-170]], [1.0], [0.5, 5e169]),
        (RescaledFeatures(), [[1e160, 1e160]], [1.0], [5e-161, 5e-161]),
        (Preconditioned([1e-300]), [[1e-200]], [1e-200], [1.0]),
        (Preconditioned([1e308, 1e308]), [[1e155, 1e155]], [1.0], [5e-156, 5e-156]),
    ],
    ids=str,
)
def test_squares_and_products_outside_of_the_range_of_floats_claim_nothing_wrong(rule, A, b, point):
    prediction = predict(rule, A, b)
    if prediction.determined:
        assert prediction.point.tolist() == pytest.approx(point, rel=1e-6, abs=0)


# Conditioning.


@pytest.mark.parametrize("k", [8, 13, 17, 20, 23, 26])
def test_least_squares_of_nearly_parallel_columns_with_large_residuals(k):
    # theta = (1, 1) by symmetry: the residuals +-1/2 of equal rows cancel.
    d = 2.0**-k
    A, b = [[1.0, 1.0], [1.0, 1 + d], [1.0, 1 + d], [1.0, 1.0]], [2.5, 2.5 + d, 1.5 + d, 1.5]
    prediction = predict(GradientDescent(), A, b)
    if prediction.determined:
        torch.testing.assert_close(prediction.point, torch.ones(2, dtype=F64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("c", [3, 6, 9])
def test_a_finite_minimiser_of_nearly_dependent_features_is_right_where_it_is_claimed(c, seed):
    g = np.random.default_rng(seed)
    A, V = g.standard_normal((12, 3)), np.linalg.qr(g.standard_normal((3, 3)))[0]
    A, b = A @ np.diag(np.logspace(0, -c, 3)) @ V.T, np.sign(g.standard_normal(12) + 0.3)
    prediction = predict(GradientDescent(), A, b, loss="exponential")
    if prediction.point is not None:
        Z, x = matrix((A * b[:, None]).tolist()), matrix(prediction.point.tolist())
        for _ in range(20):
            weights = [exp(-margin) for margin in Z * x]
            x += lu_solve(Z.T * diag(weights) * Z, Z.T * matrix(weights))
        assert away(prediction.point, x) <= 1e-6


@pytest.mark.parametrize("c", [6, 8, 9.9, 11, 13])
def test_gradient_descent_on_ill_conditioned_equations_is_within_the_tolerance(c):
    for seed, far in enumerate([0.0, 0.0, 0.0, 1e3, 1e3, 1e3]):
        g = np.random.default_rng(seed)
        U, V = np.linalg.qr(g.standard_normal((5, 5)))[0], np.linalg.qr(g.standard_normal((8, 5)))[0]
        A, theta0 = torch.tensor((U * np.logspace(0, -c, 5)) @ V.T), far * torch.tensor(g.standard_normal(8))
        b = A @ torch.tensor(g.standard_normal(8))
        prediction = predict(GradientDescent(), A, b, theta0)
        if prediction.determined:
            M, start = matrix(A.tolist()), matrix(theta0.tolist())
            exact = start + M.T * lu_solve(M * M.T, matrix(b.tolist()) - M * start)
            assert away(prediction.point, exact, theta0) <= 1e-6


@pytest.mark.parametrize(("dtype", "d", "more"), [(torch.float32, 2**-13, 2**-8), (torch.float64, 2**-30, 1e-4)])
def test_a_contradiction_is_not_hidden_by_the_size_of_an_ill_conditioned_solution(dtype, d, more):
    # For d = 2^-13 and steps of 1/3 rows in the order 0, 1, 2 end at theta_1 = 8184, in the order 2, 1, 0 at 8168.
    A, b = torch.tensor([[1, 1], [1, 1 + d], [1, 1]], dtype=dtype), torch.tensor([0, 1, more], dtype=dtype)
    assert not predict(GradientDescent(batch_size=1), A, b).determined


def test_a_contradiction_is_not_hidden_by_the_size_of_what_cannot_move():
    rule, A, b, start = Preconditioned([1.0, 0.0], batch_size=1), [[1.0, 1.0]] * 2, [1e13 + 1, 1e13 + 2], [0.0, 1e13]
    ends = simulate(rule, A, b, 0.5, 400, theta0=start, seeds=8).point[:, 0]
    assert float(ends.max() - ends.min()) > 0.1
    assert not predict(rule, A, b, start).determined


@pytest.mark.parametrize("p", [1.5, 3.0, 4.0])
def test_a_row_that_is_missed_by_less_than_the_solver_sees_moves_the_direction(p):
    # Without the last row w is best; that row, nearly the first one, is missed there by 5e-11 and so far from w best.
    Z = torch.tensor([[1.0, 0.4, 1.6], [0.7, 1.9, 0.2]], dtype=F64)
    rule, ones = MirrorDescent(PNorm(p)), [1.0, 1.0, 1.0]
    w = predict(rule, Z, ones[:2], loss="exponential").direction
    other = predict(GradientDescent(), Z, ones[:2], loss="exponential").direction
    d = torch.nn.functional.normalize(other - (other @ w) * w, dim=0)
    near = Z[0] + 1e-4 * d
    near = near * (1 - 5e-11) * (Z @ w).min() / (near @ w)
    prediction = predict(rule, torch.cat([Z, near[None]]), ones, loss="exponential")
    if prediction.determined:
        # The largest margin is attained by rows that hold it to rounding, not to 1e-10.
        margins = torch.cat([Z, near[None]]) @ prediction.direction
        assert float(margins[2] / margins[:2].min()) >= 1 - 1e-12
