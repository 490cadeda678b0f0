"""Mirror descent's predictions against a cone program that Newton's method polishes in sixty digits."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import matrix, mp, mpf
from tests.implicit_bias.measures import Array, digits, largest_gap

from steepest.errors import InvalidArgument
from steepest.implicit_bias import (
    Entropy,
    GradientDescent,
    Hypentropy,
    MirrorDescent,
    PNorm,
    Potential,
    certify,
    predict,
    simulate,
)

sixty_digits = digits(60)


def drawn(seed: int, potential: Potential, size: tuple[int, int] | None = None) -> tuple[Array, Array, Array]:
    """Some equations in more unknowns, and a random start in the potential's domain."""
    rng = np.random.default_rng(seed)
    m, n = size or (int(rng.integers(1, 5)), int(rng.integers(6, 11)))
    A = rng.standard_normal((m, n))
    if isinstance(potential, Entropy):
        return A, A @ np.exp(rng.standard_normal(n)), np.exp(rng.standard_normal(n))
    return A, rng.standard_normal(m), rng.standard_normal(n)


def slope(potential: Potential, x: mpf) -> mpf:
    """The derivative of psi."""
    if isinstance(potential, Entropy):
        return mp.log(x)
    if isinstance(potential, Hypentropy):
        return mp.asinh(x / mpf(potential.beta))
    return mp.sign(x) * abs(x) ** (mpf(potential.p) - 1)


def curvature(potential: Potential, x: mpf) -> mpf:
    """Its second derivative."""
    if isinstance(potential, Entropy):
        return 1 / x
    if isinstance(potential, Hypentropy):
        return 1 / mp.sqrt(x**2 + mpf(potential.beta) ** 2)
    return (mpf(potential.p) - 1) * abs(x) ** (mpf(potential.p) - 2)


def inverse(potential: Potential, z: mpf) -> mpf:
    """Where the derivative is z."""
    if isinstance(potential, Entropy):
        return mp.exp(z)
    if isinstance(potential, Hypentropy):
        return mpf(potential.beta) * mp.sinh(z)
    return mp.sign(z) * abs(z) ** (1 / (mpf(potential.p) - 1))


def cone_program(potential: Potential, A: Array, b: Array, start: Array) -> Array:
    """CLARABEL's minimiser of psi(x) - <grad psi(start), x> over A x = b, as near as it comes with tolerances 1e-12."""
    n = len(start)
    x, z = cp.Variable(n), np.array([float(slope(potential, mpf(s))) for s in start])
    constraints = [A @ x == b]
    if isinstance(potential, Entropy):
        value = cp.sum(cp.kl_div(x, start))
    elif isinstance(potential, Hypentropy):
        # The least sum of two entropies whose arguments differ by x.
        u, v, half = cp.Variable(n), cp.Variable(n), np.full(n, potential.beta / 2)
        value = cp.sum(cp.kl_div(u, half)) + cp.sum(cp.kl_div(v, half)) - z @ x
        constraints.append(x == u - v)
    else:
        value = cp.sum(cp.power(cp.abs(x), potential.p)) / potential.p - z @ x
    with warnings.catch_warnings():
        # It says so where it does not reach 1e-12, and that is what the polish is for.
        warnings.filterwarnings("ignore", message=".*inaccurate.*")
        cp.Problem(cp.Minimize(value), constraints).solve(
            solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
        )
    return x.value


def polished(potential: Potential, A: Array, b: Array, start: Array) -> Array:
    """The point where A x = b and grad psi(x) - grad psi(start) = A' l, to 30 digits, by Newton's method from there.

    It is the only one, as psi is strictly convex. In l where psi* is smooth (p <= 2 and the entropies), else in x.
    """
    near = cone_program(potential, A, b, start)
    exact_A, exact_b, n = matrix(A.tolist()), matrix(b.tolist()), A.shape[1]
    z0 = matrix([slope(potential, mpf(s)) for s in start])
    z = np.array([float(slope(potential, mpf(x)) - z0[j]) for j, x in enumerate(near)])
    l = matrix(np.linalg.lstsq(A.T, z, rcond=None)[0].tolist())  # noqa: E741
    if isinstance(potential, PNorm) and potential.p > 2:
        return _primal(potential, exact_A, exact_b, z0, matrix(near.tolist()), l)

    def point(l: matrix) -> matrix:  # noqa: E741
        z = z0 + exact_A.T * l
        return matrix([inverse(potential, z[j]) for j in range(n)])

    def short(l: matrix) -> mpf:  # noqa: E741
        return mp.norm(exact_A * point(l) - exact_b)

    for _ in range(200):
        x = point(l)
        if short(l) < mpf(10) ** -40:
            return np.array([float(xj) for xj in x])
        weights = matrix(n, n)
        for j in range(n):
            weights[j, j] = 1 / curvature(potential, x[j])
        step = mp.lu_solve(exact_A * weights * exact_A.T, exact_b - exact_A * x)
        size = mpf(1)
        while short(l + size * step) > (1 - size / 10**4) * short(l):
            size /= 2
        l += size * step  # noqa: E741
    raise AssertionError("Newton's method has not converged")


def _primal(potential: PNorm, A: matrix, b: matrix, z0: matrix, x: matrix, l: matrix) -> Array:  # noqa: E741
    m, n = A.rows, A.cols

    def wrong(x: matrix, l: matrix) -> matrix:  # noqa: E741
        stationary = matrix([slope(potential, x[j]) for j in range(n)]) - z0 - A.T * l
        return matrix([*stationary, *(A * x - b)])

    for _ in range(400):
        here = wrong(x, l)
        if mp.norm(here) < mpf(10) ** -40:
            return np.array([float(xj) for xj in x])
        system = matrix(n + m, n + m)
        for j in range(n):
            system[j, j] = curvature(potential, x[j])
            for i in range(m):
                system[n + i, j] = A[i, j]
                system[j, n + i] = -A[i, j]
        step, size = mp.lu_solve(system, -here), mpf(1)
        dx, dl = matrix(step[:n]), matrix(step[n:])
        while mp.norm(wrong(x + size * dx, l + size * dl)) > (1 - size / 10**4) * mp.norm(here):
            size /= 2
        x, l = x + size * dx, l + size * dl  # noqa: E741
    raise AssertionError("Newton's method has not converged")


POTENTIALS = [
    Entropy(),
    *(PNorm(p) for p in (1.1, 1.5, 2, 3, 5, 10)),
    *(Hypentropy(beta) for beta in (1e-3, 0.1, 1.0, 10.0)),
]
EACH = pytest.mark.parametrize("potential", POTENTIALS, ids=repr)
SOME = pytest.mark.parametrize("potential", [Entropy(), PNorm(1.5), PNorm(3), Hypentropy(0.1)], ids=repr)


def mirrored(potential: Potential, x: torch.Tensor) -> Array:
    return np.array([float(slope(potential, mpf(float(entry)))) for entry in x])


@pytest.mark.slow
@EACH
def test_predictions_from_random_starts_are_the_polished_minimisers(potential):
    for seed in range(6):
        A, b, start = drawn(seed, potential)
        prediction = predict(MirrorDescent(potential), A, b, start)
        assert prediction.determined, prediction.reason
        assert largest_gap(prediction.point, polished(potential, A, b, start)) <= 1e-10, seed


@EACH
def test_predictions_from_the_default_start_are_the_polished_minimisers(potential):
    A, b, start = drawn(7, potential, (3, 8))
    start = np.ones(8) if isinstance(potential, Entropy) else np.zeros(8)
    prediction = predict(MirrorDescent(potential), A, b)
    assert prediction.determined, prediction.reason
    assert largest_gap(prediction.point, polished(potential, A, b, start)) <= 1e-10


@pytest.mark.parametrize("potential", [PNorm(1.1), PNorm(10), Hypentropy(1e-3)], ids=repr)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_predictions_of_very_small_and_large_targets_are_the_polished_minimisers(potential, scale):
    A, b, _ = drawn(11, potential, (3, 8))
    prediction = predict(MirrorDescent(potential), A, scale * b)
    if isinstance(potential, PNorm):
        # |x|^p is homogeneous.
        expected = scale * polished(potential, A, b, np.zeros(8))
    elif scale > 1:
        expected = scale * polished(Hypentropy(potential.beta / scale), A, b, np.zeros(8))
    else:
        expected = polished(potential, A, scale * b, np.zeros(8))
    assert prediction.determined, prediction.reason
    assert largest_gap(prediction.point, expected) <= 1e-10 * max(1, scale)


@pytest.mark.slow
@pytest.mark.parametrize("potential", [Entropy(), PNorm(1.1), PNorm(10), Hypentropy(1e-3)], ids=repr)
def test_predictions_of_six_equations_in_twenty_unknowns_are_the_polished_minimisers(potential):
    A, b, start = drawn(3, potential, (6, 20))
    prediction = predict(MirrorDescent(potential), A, b, start)
    assert prediction.determined, prediction.reason
    assert largest_gap(prediction.point, polished(potential, A, b, start)) <= 1e-10


@EACH
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_the_mirrored_move_to_a_prediction_lies_in_the_row_space(potential, seed):
    A, b, start = drawn(seed, potential, (3, 8))
    prediction = predict(MirrorDescent(potential), A, b, start)
    assert prediction.determined, prediction.reason
    assert largest_gap(A @ prediction.point.numpy(), b) <= 1e-10
    moved = mirrored(potential, prediction.point) - mirrored(potential, torch.from_numpy(start))
    left = moved - A.T @ np.linalg.lstsq(A.T, moved, rcond=None)[0]
    size = np.linalg.norm(mirrored(potential, torch.from_numpy(start))) + np.linalg.norm(moved)
    assert np.linalg.norm(left) <= 1e-11 * size
    assert prediction.certificate
    assert certify(MirrorDescent(potential), A, b, prediction.point, start)


@EACH
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-4, 0))
def test_other_solutions_are_not_certified(potential, seed, exponent):
    A, b, start = drawn(seed, potential, (3, 8))
    prediction = predict(MirrorDescent(potential), A, b, start)
    aside = np.linalg.svd(A)[2][3 + seed % 5] * 10**exponent * np.linalg.norm(prediction.point.numpy() - start)
    found = certify(MirrorDescent(potential), A, b, prediction.point.numpy() + aside, start)
    assert not found
    assert found.error == pytest.approx(10**exponent, rel=1e-6)


@given(seed=st.integers(0, 10**6))
def test_the_square_as_potential_is_gradient_descent_with_primal_momentum_too(seed):
    A, b, start = drawn(seed, PNorm(2), (3, 8))
    expected = predict(GradientDescent(), A, b, start).point
    for rule in (MirrorDescent(PNorm(2)), MirrorDescent(PNorm(2), momentum=0.9)):
        prediction = predict(rule, A, b, start)
        assert prediction.determined
        assert largest_gap(prediction.point, expected) <= 1e-10


@pytest.mark.slow
@SOME
@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9, "momentum_on": "dual"}, {"batch_size": 1}, {"batch_size": 2}], ids=repr
)
def test_runs_without_momentum_or_with_it_on_the_dual_iterate_end_at_the_prediction(potential, options):
    A, b, start = drawn(5, potential, (3, 8))
    rule = MirrorDescent(potential, **options)
    prediction = predict(rule, A, b, start)
    assert prediction.determined
    run = simulate(rule, A, b, [f * rule.scale(prediction.problem) for f in (0.2, 0.5)], 6000, theta0=start)
    assert bool(run.converged.all())
    for end in run.point:
        assert largest_gap(end, prediction.point) <= 1e-8
        assert certify(rule, A, b, end, start)


@pytest.mark.slow
@SOME
def test_momentum_on_the_primal_iterate_ends_elsewhere_and_nothing_is_claimed(potential):
    A, b, start = drawn(5, potential, (3, 8))
    rule = MirrorDescent(potential, momentum=0.9)
    prediction = predict(rule, A, b, start)
    assert not prediction.determined
    assert prediction.point is None
    projection = predict(MirrorDescent(potential), A, b, start).point
    run = simulate(rule, A, b, [f * rule.scale(prediction.problem) for f in (0.3, 1.0)], 6000, theta0=start)
    assert bool(run.converged.all())
    for end in run.point:
        assert float((end - projection).norm()) > 0.05
        assert not certify(rule, A, b, end, start)
        assert not certify(MirrorDescent(potential), A, b, end, start)
    assert float((run.point[0] - run.point[1]).norm()) > 0.05


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_start_outside_of_the_entropys_domain_is_refused(bad):
    for call in (
        lambda: predict(MirrorDescent(Entropy()), [[1, 1]], [1], [1, bad]),
        lambda: certify(MirrorDescent(Entropy()), [[1, 1]], [1], [0.5, 0.5], [1, bad]),
    ):
        with pytest.raises(
            InvalidArgument, match=r"theta0 must lie where Entropy\(\) is differentiable.*Start above 0"
        ):
            call()


def test_a_certificate_of_an_end_outside_of_the_domain_fails():
    assert not certify(MirrorDescent(Entropy()), [[1, 1]], [1], [2, -1])


@pytest.mark.parametrize(
    ("A", "b"),
    [
        ([[1, 1]], [-1]),
        ([[1, 1]], [0]),
        ([[1, 0], [1, 1]], [1, 1]),
        ([[1, -1, 0], [0, 1, -1], [1, 1, 1]], [2, 2, 3]),
        ([[1, 1, 1], [1, 1, 2]], [1, 1]),
    ],
)
def test_without_a_solution_inside_of_the_entropys_domain_nothing_is_claimed(A, b):
    prediction = predict(MirrorDescent(Entropy()), A, b)
    assert not prediction.determined
    assert prediction.point is None
    assert "No solution was found well inside" in prediction.reason


@pytest.mark.parametrize("least", [1e-3, 1e-6, 1e-9, 1e-12])
def test_solutions_near_the_border_are_found_or_nothing_is_claimed(least):
    # theta_3 = least exactly, and theta_1 / theta_2 = their ratio at the start.
    prediction = predict(MirrorDescent(Entropy()), [[1, 1, 0], [0, 0, 1]], [3, least], [1, 2, 1])
    assert not prediction.determined or largest_gap(prediction.point, [1, 2, least]) <= 1e-10


@EACH
def test_contradicting_equations_are_not_determined(potential):
    prediction = predict(MirrorDescent(potential), [[1, 2, 3], [1, 2, 3]], [1, 2])
    assert not prediction.determined
    assert "contradict" in prediction.reason


@EACH
def test_redundant_equations_change_nothing(potential):
    A, b, start = drawn(9, potential, (3, 8))
    once = predict(MirrorDescent(potential), A, b, start)
    more = predict(MirrorDescent(potential), np.vstack([A, A[0] - 2 * A[1]]), np.r_[b, b[0] - 2 * b[1]], start)
    assert more.determined
    assert largest_gap(more.point, once.point) <= 1e-10


@EACH
def test_columns_of_zeros_stay_where_they_start(potential):
    A, b, start = drawn(9, potential, (3, 8))
    padded = np.insert(A, 4, 0, axis=1)
    prediction = predict(MirrorDescent(potential), padded, b, np.insert(start, 4, 0.7))
    assert prediction.determined
    assert float(prediction.point[4]) == pytest.approx(0.7, rel=1e-12)
    once = predict(MirrorDescent(potential), A, b, start).point
    assert largest_gap(np.delete(prediction.point.numpy(), 4), once) <= 1e-10
    assert "Columns of zeros, 4" in prediction.reason
