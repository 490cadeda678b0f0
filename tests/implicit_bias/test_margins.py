"""Directions of largest margin against a cone program whose active set is solved again in fifty digits."""

from __future__ import annotations

import itertools
import warnings
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import lu_solve, matrix, mp, mpf
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
from steepest.norms import L1, L2, Ellipsoid, LInf, Lp, Norm, Scaled, Spectral

LOSSES = pytest.mark.parametrize("loss", ["logistic", "exponential"])


fifty_digits = digits(50)


def separable(seed: int, m: int = 6, n: int = 4) -> tuple[Array, Array]:
    """Examples and labels that some halfspace separates."""
    rng = np.random.default_rng(seed)
    A, w = rng.standard_normal((m, n)), rng.standard_normal(n)
    A = A + 0.3 * np.sign(A @ w)[:, None] * w / np.linalg.norm(w)
    return A, np.sign(A @ w)


def least(Z: Array, p: float) -> tuple[Array, Array]:
    """CLARABEL's w of least p-norm with Z w >= 1, and its multipliers."""
    w = cp.Variable(Z.shape[1])
    rows = Z @ w >= 1
    value = cp.norm(w, 2) if p == 2 else cp.sum(cp.power(cp.abs(w), p))
    problem = cp.Problem(cp.Minimize(value), [rows])
    with warnings.catch_warnings():
        # It says so where it does not reach 1e-12; the digits that lack are found below.
        warnings.filterwarnings("ignore", message=".*inaccurate.*")
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    # Multipliers of the norm and of its p-th power over p differ by a factor.
    point, multipliers = w.value, rows.dual_value
    slopes = np.sign(point) * np.abs(point) ** (p - 1)
    return point, multipliers * (slopes @ point) / multipliers.sum()


def smooth(Z: Array, p: float) -> Array:
    """The w of least p-norm, 1 < p, with Z w >= 1, whose conditions hold to 30 digits."""
    near, multipliers = least(Z, p)
    active = multipliers > 1e-5 * multipliers.max()
    rows, m, n = matrix(Z[active].tolist()), int(active.sum()), Z.shape[1]
    w, q, p = matrix(near.tolist()), matrix(multipliers[active].tolist()), mpf(p)

    def wrong(w: matrix, q: matrix) -> matrix:
        slopes = matrix([mp.sign(w[j]) * abs(w[j]) ** (p - 1) for j in range(n)])
        return matrix([*(slopes - rows.T * q), *(rows * w - matrix([1] * m))])

    for _ in range(400):
        here = wrong(w, q)
        if mp.norm(here) < mpf(10) ** -35:
            break
        system = matrix(n + m, n + m)
        for j in range(n):
            system[j, j] = (p - 1) * abs(w[j]) ** (p - 2)
            for i in range(m):
                system[n + i, j], system[j, n + i] = rows[i, j], -rows[i, j]
        step, size = lu_solve(system, -here), mpf(1)
        while mp.norm(wrong(w + size * matrix(step[:n]), q + size * matrix(step[n:]))) > mp.norm(here):
            size /= 2
        w, q = w + size * matrix(step[:n]), q + size * matrix(step[n:])
    assert mp.norm(wrong(w, q)) < mpf(10) ** -35
    # Its conditions prove a minimum of a convex program: all rows at least 1, no multiplier below 0.
    assert min(matrix(Z.tolist()) * w) > 1 - mpf(10) ** -30
    assert min(q) >= 0
    return np.array([float(x) for x in w])


def vertices(Z: Array, p: float) -> tuple[float, list[Array]]:
    """The largest margin in L1 or LInf and all its vertices, by trying every set of active constraints in fractions.

    max g over Z w >= g and w in the unit ball: at a vertex n + 1 of the constraints hold with equality.
    """
    n = Z.shape[1]
    rows = [[*map(Fraction, row.tolist()), Fraction(-1)] for row in Z]
    if p == 1:
        facets = [[*map(Fraction, signs), Fraction(0)] for signs in itertools.product([-1, 1], repeat=n)]
    else:
        facets = [[Fraction(s * (k == j)) for k in range(n + 1)] for j in range(n) for s in (-1, 1)]
    constraints = [(row, Fraction(0)) for row in rows] + [(facet, Fraction(-1)) for facet in facets]
    best, found = Fraction(-1), set()
    for chosen in itertools.combinations(constraints, n + 1):
        x = eliminated([[*row, c] for row, c in chosen])
        if x is None or any(sum(r * xi for r, xi in zip(row, x, strict=True)) < c for row, c in constraints):
            continue
        if x[n] > best:
            best, found = x[n], set()
        if x[n] == best:
            found.add(tuple(x[:n]))
    return float(best), [np.array([float(x) for x in w]) for w in found]


def eliminated(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """Solve k equations, k x (k + 1), by Gauss's elimination, or return None where they have no one solution."""
    for k in range(len(rows)):
        pivot = next((i for i in range(k, len(rows)) if rows[i][k] != 0), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k] != 0:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


def unit(w: Array) -> Array:
    return w / np.linalg.norm(w)


def margin(norm: Norm, Z: Array, w: object) -> float:
    return float((Z @ np.asarray(w)).min() / float(norm(torch.as_tensor(w))))


def full(n: int, seed: int) -> Array:
    """A positive definite matrix."""
    root = np.random.default_rng(seed).standard_normal((n, n))
    return root @ root.T / n + 0.2 * np.eye(n)


@pytest.mark.parametrize("p", [1.2, 1.5, 2, 3, 4, 6, 10])
def test_directions_of_largest_margin_in_lp_are_those_of_the_polished_program(p):
    for seed, loss in enumerate(["logistic", "exponential"] * 2):
        A, b = separable(seed, 8, 5)
        Z = A * b[:, None]
        w = smooth(Z, p)
        for rule in (NormSteepest(Lp(p)), NormSteepest(Lp(p), "constrained"), MirrorDescent(PNorm(p))):
            prediction = predict(rule, A, b, loss=loss)
            assert prediction.determined, f"{seed}, {rule}: {prediction.reason}"
            assert prediction.point is None
            assert largest_gap(prediction.direction, unit(w)) <= 1e-10
            assert margin(Lp(p), Z, prediction.direction) == pytest.approx(margin(Lp(p), Z, w), rel=1e-10)


@LOSSES
@pytest.mark.parametrize("size", [(2, 5), (8, 5), (20, 10), (40, 3)], ids=repr)
def test_gradient_descent_goes_to_the_largest_euclidean_margin(size, loss):
    for seed in range(4):
        A, b = separable(seed, *size)
        w = smooth(A * b[:, None], 2)
        for rule in (
            GradientDescent(),
            GradientDescent(momentum=0.9),
            GradientDescent(batch_size=1),
            NormSteepest(L2()),
            torch.optim.SGD,
        ):
            prediction = predict(rule, A, b, np.ones(size[1]), loss)
            if rule == GradientDescent(batch_size=1) and loss == "exponential":
                assert not prediction.determined, "proved for smooth losses"
                continue
            assert prediction.determined, prediction.reason
            assert largest_gap(prediction.direction, unit(w)) <= 1e-10
            assert prediction.certificate.distance <= 1e-10


def test_preconditioned_descent_goes_to_the_largest_margin_in_the_preconditioners_norm():
    for seed, loss in enumerate(["logistic", "exponential"] * 2):
        A, b = separable(seed, 8, 5)
        Z, rng = A * b[:, None], np.random.default_rng(seed)
        d, D, scale = np.exp(rng.standard_normal(5)), full(5, seed), np.sqrt((A**2).mean(axis=0))
        lower = np.linalg.cholesky(D)
        ellipsoid = Ellipsoid(torch.from_numpy(d))
        for rule, root in (
            (Preconditioned(d), np.diag(np.sqrt(d))),
            (Preconditioned(D), lower),
            (Preconditioned(D, batch_size=1 if loss == "logistic" else None), lower),
            (RescaledFeatures(), np.diag(1 / scale)),
            (NormSteepest(ellipsoid), np.diag(np.sqrt(d))),
            (NormSteepest(Scaled(ellipsoid, by=3.0), "constrained"), np.diag(np.sqrt(d))),
        ):
            prediction = predict(rule, A, b, loss=loss)
            assert prediction.determined, prediction.reason
            assert largest_gap(prediction.direction, unit(root @ smooth(Z @ root, 2))) <= 1e-10, rule


def test_a_coordinate_that_a_preconditioner_freezes_has_no_part_in_the_direction():
    A, b = separable(1, 8, 5)
    d = np.array([1.0, 0.0, 2.0, 0.5, 0.0])
    moving = d > 0
    A[:, 2] = 2.5 * b
    prediction = predict(Preconditioned(d), A, b, np.ones(5), "exponential")
    root = np.sqrt(d[moving])
    expected = np.zeros(5)
    expected[moving] = unit(root * smooth((A * b[:, None])[:, moving] * root, 2))
    assert prediction.determined
    assert largest_gap(prediction.direction, expected) <= 1e-10


NORMS = pytest.mark.parametrize(("norm", "p"), [(L1(), 1), (LInf(), np.inf)], ids=["L1", "LInf"])


@NORMS
def test_directions_of_largest_margin_in_l1_and_linf_are_the_best_vertex_of_all(norm, p):
    for seed, loss in enumerate(["logistic", "exponential"] * 2):
        A, b = separable(seed, 5, 3)
        best, found = vertices(A * b[:, None], p)
        assert len(found) == 1
        for rule in (NormSteepest(norm), NormSteepest(Scaled(norm, by=0.3), "constrained")):
            prediction = predict(rule, A, b, loss=loss)
            assert prediction.determined, prediction.reason
            assert largest_gap(prediction.direction, unit(found[0])) <= 1e-10
            assert margin(norm, A * b[:, None], prediction.direction) == pytest.approx(best, rel=1e-10)


@LOSSES
@pytest.mark.parametrize("size", [(12, 8), (30, 6), (6, 20)], ids=repr)
def test_the_largest_margin_of_sign_descent_solves_its_active_constraints(size, loss):
    for seed in range(4):
        A, b = separable(seed, *size)
        Z, n = A * b[:, None], size[1]
        w, g = cp.Variable(n), cp.Variable()
        rows = Z @ w >= g
        problem = cp.Problem(cp.Maximize(g), [rows, w <= 1, w >= -1])
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        tight, full_entries = rows.dual_value > 1e-7, np.abs(w.value) > 1 - 1e-7
        system = np.zeros((int(tight.sum()), n + 1))
        system[:, :n], system[:, n] = Z[tight], -1
        fixed = np.zeros((int(full_entries.sum()), n + 1))
        fixed[np.arange(len(fixed)), np.flatnonzero(full_entries)] = 1
        targets = np.r_[np.zeros(len(system)), np.sign(w.value[full_entries])]
        x, _, rank, _ = np.linalg.lstsq(np.vstack([system, fixed]), targets, rcond=None)
        assert rank == n + 1
        for rule in (SignDescent(), EpochAdam(), NormSteepest(LInf())):
            prediction = predict(rule, A, b, loss=loss)
            assert prediction.determined, prediction.reason
            assert largest_gap(prediction.direction, unit(x[:n])) <= 1e-10
            assert margin(LInf(), Z, prediction.direction) == pytest.approx(x[n], rel=1e-10)


# Uniqueness


def whole_numbers(norm: Norm, p: float, seed: int) -> None:
    Z = np.random.default_rng(seed).integers(-2, 3, (4, 3)).astype(float)
    Z = Z[Z.any(axis=1)]
    best, found = vertices(Z, p)
    prediction = predict(NormSteepest(norm), Z, np.ones(len(Z)), loss="exponential")
    if best <= 0:
        assert not prediction.determined
        return
    assert prediction.determined == (len(found) == 1)
    if prediction.determined:
        assert largest_gap(prediction.direction, unit(found[0])) <= 1e-10
    else:
        assert "several directions attain it" in prediction.reason


@NORMS
def test_a_margin_of_small_whole_numbers_is_claimed_only_if_one_vertex_attains_it(norm, p):
    for seed in range(12):
        whole_numbers(norm, p, seed)


@pytest.mark.slow
@NORMS
@given(seed=st.integers(0, 10**6))
def test_a_margin_is_claimed_for_small_whole_numbers_only_if_one_vertex_attains_it(norm, p, seed):
    whole_numbers(norm, p, seed)


@pytest.mark.parametrize(
    ("rule", "A"),
    [
        # In L1 equal columns share a weight in any way; in LInf a column that the margin does not need is free.
        (NormSteepest(L1()), [[1, 1, 0], [2, 2, 0.5]]),
        (NormSteepest(L1(), "constrained"), [[1, -1, 0.3], [3, -3, -0.2]]),
        (SignDescent(), [[1, 0], [2, 0]]),
        (EpochAdam(), [[1, 0], [2, 0]]),
        (NormSteepest(LInf()), [[1, 0.5, 0], [1, -0.5, 0]]),
        (SignDescent(), [[1, 0, 0], [5, 1, 0.25]]),
    ],
    ids=str,
)
def test_a_largest_margin_of_several_directions_is_not_determined(rule, A):
    prediction = predict(rule, A, [1, 1], loss="logistic")
    assert not prediction.determined
    assert prediction.direction is None
    assert "several directions attain it" in prediction.reason
    assert not certify(rule, A, [1, 1], [1, 0, 0][: len(A[0])], loss="logistic")


# Where there is no margin


def partial(seed: int) -> tuple[Array, Array]:
    """Two examples that some halfspace separates, others that only halfspaces with them on the border do not split."""
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((5, 2))
    inner = np.vstack([inner, -inner.sum(axis=0)])
    A = np.zeros((8, 4))
    A[:6, :2] = inner
    A[6:] = np.c_[rng.standard_normal((2, 2)), rng.uniform(0.5, 2, (2, 1)), rng.standard_normal((2, 1))]
    labels = rng.choice([-1.0, 1.0], 8)
    return A * labels[:, None], labels


MARGIN_RULES = [
    GradientDescent(),
    GradientDescent(batch_size=1),
    RescaledFeatures(),
    Preconditioned([1.0, 2.0, 3.0, 4.0]),
    MirrorDescent(PNorm(3)),
    NormSteepest(L1()),
    NormSteepest(L2()),
    NormSteepest(Lp(3)),
    SignDescent(),
    EpochAdam(),
    torch.optim.SGD,
]


@LOSSES
@pytest.mark.parametrize("rule", MARGIN_RULES)
def test_on_partially_separable_examples_nothing_is_claimed(rule, loss):
    for seed in range(5):
        A, b = partial(seed)
        prediction = predict(rule, A, b, loss=loss)
        assert not prediction.determined
        assert "leaves the others on its border" in prediction.reason


@LOSSES
@pytest.mark.parametrize("rule", MARGIN_RULES)
def test_on_inseparable_examples_no_direction_is_claimed(rule, loss):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((5, 4))
    A = np.vstack([A, -A.sum(axis=0)])
    prediction = predict(rule, A, np.ones(6), loss=loss)
    assert prediction.direction is None
    assert "no margin to claim" in prediction.reason


@LOSSES
@pytest.mark.parametrize("rule", MARGIN_RULES)
def test_an_example_of_zeros_changes_nothing(rule, loss):
    A, b = [[1, 2, 3, 5], [0, 2, -1, 4]], [1, -1]
    once, more = predict(rule, A, b, loss=loss), predict(rule, [A[0], [0] * 4, A[1]], [1, -1, -1], loss=loss)
    assert more.determined == once.determined
    assert not once.determined or largest_gap(once.direction, more.direction) <= 1e-12
    assert predict(rule, [[0] * 4], [1], loss=loss).point.tolist() == [0] * 4


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-14, -4))
def test_examples_that_are_hardly_separable_are_separated_rightly_or_not_at_all(seed, exponent):
    A, b = separable(seed, 5, 3)
    # A pair of opposite examples, but for a small angle.
    aside = np.random.default_rng(seed).standard_normal(3) * 10**exponent
    A, b = np.vstack([A, -A[0] * b[0] + aside]), np.r_[b, 1.0]
    prediction = predict(GradientDescent(), A, b, loss="exponential")
    if prediction.determined and prediction.direction is not None:
        assert float((A @ prediction.direction.numpy() * b).min()) > 0


@LOSSES
def test_nothing_is_claimed_with_nesterovs_momentum_nor_of_norms_whose_margin_is_not_computed(loss):
    A, b = separable(0, 6, 4)
    for rule in (GradientDescent(momentum=0.9, nesterov=True), NormSteepest(Spectral(), shape=(2, 2))):
        assert not predict(rule, A, b, loss=loss).determined


# Against runs


@pytest.mark.slow
@LOSSES
def test_sign_descent_with_single_rows_goes_to_the_mean_of_label_times_sign(loss):
    for seed in range(4):
        A, b = separable(seed, 6, 4)
        mean = (np.sign(A) * b[:, None]).mean(axis=0)
        prediction = predict(SignDescent(batch_size=1), A, b, loss=loss)
        assert prediction.determined
        assert largest_gap(prediction.direction, unit(mean)) <= 1e-12
        # Whole epochs from 0 with a constant step are a multiple of the mean.
        run = simulate(SignDescent(batch_size=1), A, b, 0.01, 600, loss=loss, seeds=2)
        for direction in run.direction:
            assert largest_gap(direction, prediction.direction) <= 1e-10
        # With steps that vanish slowly and from elsewhere it is so in the limit.
        start = np.array([1.0, -1.0, 0.5, 0.0])
        run = simulate(SignDescent(batch_size=1), A, b, lambda t: (t + 1) ** -0.5, 10_000, loss=loss, theta0=start)
        assert largest_gap(run.point[0] / run.point[0].norm(), prediction.direction) <= 2e-2
        assert certify(SignDescent(batch_size=1), A, b, run.point[0], start, loss, tolerance=2e-2)


def test_signs_that_cancel_have_no_direction():
    assert not predict(SignDescent(batch_size=1), [[2, -1], [-1, 2]], [1, 1], loss="logistic").determined


@pytest.mark.slow
@LOSSES
@pytest.mark.parametrize("norm", [L1(), L2(), LInf(), Lp(3)], ids=repr)
def test_runs_of_normalised_descent_approach_the_direction_of_their_norm_and_of_no_other(norm, loss):
    A, b = separable(3, 6, 4)
    rule = NormSteepest(norm, "constrained")
    prediction = predict(rule, A, b, loss=loss)
    assert prediction.determined
    run = simulate(rule, A, b, lambda t: 0.5 * (t + 1) ** -0.25, 3000, loss=loss)
    assert largest_gap(run.direction[0], prediction.direction) <= 1e-2
    assert certify(rule, A, b, run.point[0], loss=loss, tolerance=1e-2)
    for other in (L1(), L2(), LInf(), Lp(3)):
        if other != norm:
            elsewhere = predict(NormSteepest(other), A, b, loss=loss)
            assert largest_gap(run.direction[0], elsewhere.direction) > 2e-2
            assert not certify(NormSteepest(other), A, b, run.point[0], loss=loss, tolerance=1e-2)


@pytest.mark.slow
def test_runs_of_sign_descent_and_of_epoch_adam_approach_the_largest_margin_in_linf():
    A, b = separable(3, 6, 4)
    for rule in (SignDescent(), EpochAdam()):
        prediction = predict(rule, A, b, loss="exponential")
        run = simulate(rule, A, b, lambda t: 0.5 * (t + 1) ** -0.25, 3000, loss="exponential")
        assert largest_gap(run.direction[0], prediction.direction) <= 1e-2
