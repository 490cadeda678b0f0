"""Where descent on data that no halfspace separates ends: at the minimiser within reach, found anew in forty digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpmath import lu_solve, matrix, mp, mpf
from scipy.optimize import minimize
from tests.implicit_bias.measures import Array, digits, largest_gap

from steepest.implicit_bias import (
    EpochAdam,
    GradientDescent,
    MirrorDescent,
    NormSteepest,
    PNorm,
    Preconditioned,
    RescaledFeatures,
    SignDescent,
    certify,
    predict,
    simulate,
)
from steepest.norms import L1, Ellipsoid, LInf

LOSSES = pytest.mark.parametrize("loss", ["logistic", "exponential"])
SEEDS = pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])


forty_digits = digits(40)


def inseparable(seed: int, m: int = 9, n: int = 6, rank: int = 3) -> tuple[Array, Array, Array]:
    """Signed examples that have 0 inside of their convex hull, of a rank below the number of unknowns; and a start."""
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((m - 1, rank))
    inner = np.vstack([inner, -(rng.uniform(0.5, 1.5, m - 1) @ inner) / 3])
    b = rng.choice([-1.0, 1.0], m)
    return (inner @ rng.standard_normal((rank, n))) * b[:, None], b, 0.5 * rng.standard_normal(n)


def newton(Z: Array, start: Array, D: Array, loss: str, rank: int) -> Array:
    """The minimiser in start + range(D Z'), whose gradient in that set is 0 to 30 digits."""
    # Any basis of the range will do; the point does not depend on it.
    basis = matrix((np.linalg.svd(D @ Z.T)[0][:, :rank]).tolist())
    # The basis is exact to rounding only, so that the answer is exact to rounding.
    rows, x = matrix(Z.tolist()), matrix(rank, 1)
    moving, offset = rows * basis, rows * matrix(start.tolist())
    m = len(Z)

    def slopes(x: matrix) -> tuple[list[mpf], list[mpf]]:
        margins = offset + moving * x
        if loss == "logistic":
            first = [1 / (1 + mp.exp(s)) for s in margins]
            return first, [f * (1 - f) for f in first]
        first = [mp.exp(-s) for s in margins]
        return first, first

    def value(x: matrix) -> mpf:
        margins = offset + moving * x
        return mp.fsum(mp.log(1 + mp.exp(-s)) if loss == "logistic" else mp.exp(-s) for s in margins)

    for _ in range(100):
        first, second = slopes(x)
        gradient = -(moving.T * matrix(first))
        if mp.norm(gradient) < mpf(10) ** -30:
            return start + np.array([float(s) for s in basis * x])
        weights = matrix(m, m)
        for i in range(m):
            weights[i, i] = second[i]
        step, size = lu_solve(moving.T * weights * moving, -gradient), mpf(1)
        # Near the end values do not differ in 40 digits any more.
        while mp.norm(gradient) > mpf(10) ** -10 and value(x + size * step) > value(x):
            size /= 2
        x += size * step
    raise AssertionError("Newton's method has not converged")


def preconditioners(A: Array, seed: int) -> list[tuple[object, Array]]:
    """Rules with their D."""
    rng, n = np.random.default_rng(100 + seed), A.shape[1]
    d, root = np.exp(rng.standard_normal(n)), rng.standard_normal((n, n))
    D = root @ root.T / n + 0.3 * np.eye(n)
    return [
        (GradientDescent(), np.eye(n)),
        (GradientDescent(momentum=0.9), np.eye(n)),
        (GradientDescent(momentum=0.9, nesterov=True), np.eye(n)),
        (torch.optim.SGD, np.eye(n)),
        (Preconditioned(d), np.diag(d)),
        (Preconditioned(D), D),
        (NormSteepest(Ellipsoid(torch.from_numpy(d))), np.diag(d)),
        (RescaledFeatures(), np.diag(1 / (A**2).mean(axis=0))),
        (MirrorDescent(PNorm(2)), np.eye(n)),
    ]


@LOSSES
@SEEDS
def test_linear_rules_end_at_the_minimiser_within_their_reach(seed, loss):
    A, b, start = inseparable(seed)
    for rule, D in preconditioners(A, seed):
        prediction = predict(rule, A, b, start, loss)
        assert prediction.determined, prediction.reason
        assert prediction.direction is None
        assert prediction.certificate
        assert "no margin to claim" in prediction.reason
        assert largest_gap(prediction.point, newton(A * b[:, None], start, D, loss, 3)) <= 1e-10, rule


@LOSSES
@SEEDS
def test_a_minimiser_of_full_rank_does_not_depend_on_the_rule_nor_the_start(seed, loss):
    A, b, start = inseparable(seed, 12, 3, 3)
    Z = A * b[:, None]
    expected = newton(Z, np.zeros(3), np.eye(3), loss, 3)

    def value(theta: Array) -> float:
        return float((np.logaddexp(0, -Z @ theta) if loss == "logistic" else np.exp(-Z @ theta)).sum())

    assert largest_gap(minimize(value, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x, expected) <= 1e-4
    for rule, _ in preconditioners(A, seed):
        for theta0 in (None, start):
            prediction = predict(rule, A, b, theta0, loss)
            assert prediction.determined
            assert largest_gap(prediction.point, expected) <= 1e-10


@LOSSES
@SEEDS
def test_coordinates_that_a_preconditioner_freezes_stay(seed, loss):
    A, b, start = inseparable(seed, 14, 4, 4)
    d = np.array([1.0, 0.0, 2.0, 0.5])
    prediction = predict(Preconditioned(d), A, b, start, loss)
    assert prediction.determined
    assert float(prediction.point[1]) == start[1]
    assert largest_gap(prediction.point, newton(A * b[:, None], start, np.diag(d), loss, 3)) <= 1e-10


@LOSSES
@SEEDS
def test_mirror_descent_ends_where_the_mirrored_move_lies_in_the_row_space_and_the_gradient_is_zero(seed, loss):
    A, b, start = inseparable(seed)
    prediction = predict(MirrorDescent(PNorm(3)), A, b, start, loss)
    assert prediction.determined
    point, Z = prediction.point.numpy(), A * b[:, None]
    weights = 1 / (1 + np.exp(Z @ point)) if loss == "logistic" else np.exp(-Z @ point)
    assert np.linalg.norm(Z.T @ weights) <= 1e-11 * np.linalg.norm(np.abs(Z.T) @ weights)
    moved = np.sign(point) * point**2 - np.sign(start) * start**2
    left = moved - np.linalg.pinv(A, rcond=1e-10) @ (A @ moved)
    assert np.linalg.norm(left) <= 1e-10 * np.linalg.norm(moved)
    other = predict(GradientDescent(), A, b, start, loss).point
    assert largest_gap(A @ other.numpy(), A @ point) <= 1e-9
    assert largest_gap(other, point) > 1e-3


RUN = [
    GradientDescent(),
    GradientDescent(momentum=0.5, nesterov=True),
    Preconditioned([1.0, 2.0, 0.5, 1.0, 1.0, 3.0]),
    RescaledFeatures(),
    MirrorDescent(PNorm(2)),
    MirrorDescent(PNorm(3), momentum=0.5, momentum_on="dual"),
]


@pytest.mark.parametrize(
    ("rule", "loss"),
    [
        pytest.param(rule, loss, marks=[] if (k + (loss == "logistic")) % 2 else pytest.mark.slow)
        for k, rule in enumerate(RUN)
        for loss in ("logistic", "exponential")
    ],
)
def test_runs_end_at_the_prediction_and_are_certified(rule, loss):
    A, b, start = inseparable(1)
    prediction = predict(rule, A, b, start, loss)
    factor = 0.3 if loss == "exponential" else 1.0
    run = simulate(rule, A, b, factor * rule.scale(prediction.problem), 8000, theta0=start, loss=loss)
    assert bool(run.converged.all())
    assert largest_gap(run.point[0], prediction.point) <= 1e-8
    assert certify(rule, A, b, run.point[0], start, loss)
    aside = np.linalg.svd(A)[2][-1]
    assert not certify(rule, A, b, run.point[0].numpy() + 0.01 * aside, start, loss)


@LOSSES
@SEEDS
def test_of_minibatches_signs_and_other_norms_nothing_is_claimed(seed, loss):
    A, b, start = inseparable(seed)
    for rule in (
        GradientDescent(batch_size=1),
        RescaledFeatures(batch_size=2),
        MirrorDescent(PNorm(3), batch_size=1),
        MirrorDescent(PNorm(3), momentum=0.9),
        SignDescent(),
        EpochAdam(),
        NormSteepest(LInf()),
        NormSteepest(L1()),
        torch.optim.Adam,
    ):
        prediction = predict(rule, A, b, start, loss)
        assert not prediction.determined, rule
        assert prediction.point is None
        assert prediction.direction is None


@LOSSES
def test_the_mean_of_label_times_sign_is_claimed_of_single_rows_without_a_margin(loss):
    # The steps of single rows do not know of the loss: see test_margins.
    A, b, _ = inseparable(0)
    prediction = predict(SignDescent(batch_size=1), A, b, loss=loss)
    run = simulate(SignDescent(batch_size=1), A, b, 0.01, 900, loss=loss)
    assert prediction.determined
    assert largest_gap(run.direction[0], prediction.direction) <= 1e-10


@LOSSES
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_minimiser_scales_with_the_examples(scale, loss):
    A, b, start = inseparable(2)
    once = predict(GradientDescent(), A, b, start, loss)
    scaled = predict(GradientDescent(), scale * A, b, start / scale, loss)
    assert scaled.determined
    assert largest_gap(scale * scaled.point, once.point) <= 1e-9


@LOSSES
def test_many_examples_with_noisy_labels_are_minimised(loss):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, 4))
    b = np.sign(A[:, 0] + rng.standard_normal(60))
    prediction = predict(GradientDescent(), A, b, loss=loss)
    assert prediction.determined
    assert largest_gap(prediction.point, newton(A * b[:, None], np.zeros(4), np.eye(4), loss, 4)) <= 1e-10
