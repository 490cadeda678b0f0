"""Closed forms against runs that know nothing of them, and against pseudo-inverses in many digits."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from mpmath import matrix as exact
from mpmath import mp
from tests.implicit_bias.measures import Array, gap

from steepest.implicit_bias import (
    EpochAdam,
    GradientDescent,
    NormSteepest,
    Preconditioned,
    RescaledFeatures,
    Rule,
    SignDescent,
    predict,
    simulate,
)
from steepest.norms import L1, L2, Ellipsoid, LInf, Lp, Norm


@dataclass(frozen=True, eq=False)
class Equations:
    """A theta = b, where theta starts, and the preconditioner of the rule, as the definition of the rule gives it."""

    rule: object
    A: Array
    b: Array
    start: Array
    D: Array


def drawn(seed: int) -> tuple[np.random.Generator, Array, Array, Array]:
    """Gaussian equations, 2 <= m < n <= 50, one in three with columns of mixed scales, and a start or zeros."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 51))
    m = int(rng.integers(2, n))
    A = rng.standard_normal((m, n))
    if seed % 3 == 0:
        A = A * np.exp(rng.standard_normal(n))
    start = rng.standard_normal(n) if seed % 2 else np.zeros(n)
    return rng, A, rng.standard_normal(m), start


def linear_case(seed: int) -> Equations:
    """One of the rules that are gradient descent with some D."""
    rng, A, b, start = drawn(seed)
    m, n = A.shape
    momentum, batch = float(rng.choice([0.0, 0.5, 0.9])), [None, 1, 3][int(rng.integers(3))]
    nesterov = bool(rng.integers(2))
    kind = seed % 7
    D, rule = np.eye(n), None
    if kind <= 1:
        rule = GradientDescent(momentum=momentum, nesterov=nesterov, batch_size=batch)
    elif kind == 2:
        rule = RescaledFeatures(momentum=momentum, nesterov=nesterov, batch_size=batch)
        D = np.diag(1 / (A**2).mean(axis=0))
    elif kind == 3:
        diagonal = np.exp(rng.standard_normal(n))
        diagonal[rng.permutation(n)[: max(0, (n - m - 1) // 2)]] = 0
        rule, D = Preconditioned(diagonal, momentum=momentum, nesterov=nesterov, batch_size=batch), np.diag(diagonal)
    elif kind == 4:
        root = rng.standard_normal((n, n)) / math.sqrt(n) + 2 * np.eye(n)
        D = root @ root.T
        rule = Preconditioned(D, momentum=momentum, nesterov=nesterov, batch_size=batch)
    elif kind == 5:
        rule = functools.partial(torch.optim.SGD, lr=0.1, momentum=momentum, nesterov=nesterov and momentum > 0)
    else:
        diagonal = np.exp(rng.standard_normal(n))
        rule, D = NormSteepest(Ellipsoid(torch.from_numpy(diagonal))), np.diag(diagonal)
        if seed % 2:
            rule, D = NormSteepest(L2(), mode="constrained"), np.eye(n)
    return Equations(rule, A, b, start, D)


def heavy_ball(case: Equations) -> Array:
    """Run preconditioned gradient descent with Polyak's parameters until the residual is 1e-13 of the first."""
    A, b, D = case.A, case.b, case.D
    values = np.linalg.eigvalsh(A @ D @ A.T)
    low, high = math.sqrt(max(values[0], 1e-12 * values[-1])), math.sqrt(values[-1])
    step, momentum = 4 / (low + high) ** 2, ((high - low) / (high + low)) ** 2
    theta, velocity, back = case.start.copy(), np.zeros_like(case.start), step * (D @ A.T)
    residual = A @ theta - b
    goal = 1e-13 * (np.linalg.norm(residual) + np.linalg.norm(b))
    for t in range(400_000):
        velocity *= momentum
        velocity -= back @ residual
        theta += velocity
        residual = A @ theta - b
        if t % 16 == 0 and np.linalg.norm(residual) <= goal:
            return theta
    raise AssertionError(f"no convergence: {np.linalg.norm(residual) / goal}")


def single_rows_case(seed: int) -> Equations:
    """Few equations in many unknowns, for which sign descent with single rows is determined."""
    rng = np.random.default_rng(10_000 + seed)
    while True:
        n = int(rng.integers(10, 51))
        m = int(rng.integers(2, max(3, n // 7)))
        A, b = rng.standard_normal((m, n)), rng.standard_normal(m)
        start = rng.standard_normal(n) if seed % 2 else np.zeros(n)
        M = A @ np.sign(A).T
        # Clearly within the sufficient condition, so that few steps are enough.
        if np.linalg.eigvalsh(M + M.T)[0] > 0.3 * np.linalg.eigvalsh(M + M.T)[-1]:
            return Equations(SignDescent(batch_size=1), A, b, start, np.eye(n))


def sign_run(case: Equations, seed: int) -> Array:
    """Step along the signs of one row's gradient, the rows in a new order each epoch, with slowly falling steps."""
    rng = np.random.default_rng(seed)
    A, b, theta = case.A, case.b, case.start.copy()
    m, signs = len(A), np.sign(A)
    size = 0.5 * float(np.abs(A @ theta - b).max() / np.abs(A).sum(axis=1).min())
    ratio = 0.985 ** (1 / m)
    while size > 1e-13:
        for i in rng.permutation(m):
            theta -= size * np.sign(A[i] @ theta - b[i]) * signs[i]
            size *= ratio
    return theta


def one_equation_case(seed: int) -> tuple[Rule, Norm, Equations]:
    """A rule whose every step on one equation has one direction, and the norm whose steepest descent it is there."""
    rng = np.random.default_rng(20_000 + seed)
    n = int(rng.integers(2, 51))
    a, start = rng.standard_normal(n) * np.exp(rng.standard_normal(n)), rng.standard_normal(n)
    norms = [LInf(), L1(), Lp(float(rng.uniform(1.2, 8))), Ellipsoid(torch.from_numpy(np.exp(rng.standard_normal(n))))]
    norm = norms[seed // 4 % 4]
    rules = [SignDescent(), EpochAdam(), NormSteepest(norm, "constrained"), NormSteepest(norm)]
    rule = rules[seed % 4]
    return (
        rule,
        norm if isinstance(rule, NormSteepest) else LInf(),
        Equations(rule, a[None], np.ones(1), start, np.eye(n)),
    )


def normalised_run(norm: Norm, case: Equations) -> Array:
    """Steps of norm 1, .86, .86^2, ... of the way that is due at the most."""
    a, theta = torch.from_numpy(case.A[0]), torch.from_numpy(case.start).clone()
    size = 0.6 * abs(float(a @ theta) - 1) / float(norm.dual_norm(a))
    for _ in range(200):
        theta -= size * norm.duality_map((a @ theta - 1) * a)
        size *= 0.86
    return theta.numpy()


def agree_with_runs(seeds: range) -> None:
    for seed in seeds:
        case = linear_case(seed)
        prediction = predict(case.rule, case.A, case.b, case.start)
        assert prediction.determined, f"{seed}: {prediction.reason}"
        assert gap(heavy_ball(case), prediction.point) <= 1e-8, seed


def test_runs_of_80_linear_problems_end_within_1e_8_of_their_predictions():
    agree_with_runs(range(80))


@pytest.mark.slow
def test_runs_of_720_more_linear_problems_end_within_1e_8_of_their_predictions():
    agree_with_runs(range(80, 800))


def single_rows_agree_with_runs(seeds: range) -> None:
    for seed in seeds:
        case = single_rows_case(seed)
        prediction = predict(case.rule, case.A, case.b, case.start)
        assert prediction.determined, f"{seed}: {prediction.reason}"
        assert gap(sign_run(case, seed), prediction.point) <= 1e-8, seed


def test_runs_of_sign_descent_with_single_rows_end_within_1e_8_of_their_predictions():
    single_rows_agree_with_runs(range(10))


@pytest.mark.slow
def test_90_more_runs_of_sign_descent_with_single_rows_end_within_1e_8_of_their_predictions():
    single_rows_agree_with_runs(range(10, 100))


def one_equation_agrees_with_runs(seeds: range) -> None:
    for seed in seeds:
        rule, norm, case = one_equation_case(seed)
        prediction = predict(rule, case.A, case.b, case.start)
        assert prediction.determined, f"{seed}: {prediction.reason}"
        if isinstance(rule, NormSteepest) and rule.mode == "penalized":
            step = 0.7 / float(norm.dual_norm(torch.from_numpy(case.A[0]))) ** 2
            end = simulate(rule, case.A, case.b, step, 60, theta0=case.start).point[0]
        else:
            end = normalised_run(norm, case)
        assert gap(end, prediction.point) <= 1e-8, seed


def test_runs_of_one_equation_end_within_1e_8_of_their_predictions():
    # Each of the four rules with each of the four norms.
    one_equation_agrees_with_runs(range(16))


@pytest.mark.slow
def test_84_more_runs_of_one_equation_end_within_1e_8_of_their_predictions():
    one_equation_agrees_with_runs(range(16, 100))


def rules_agree_with_their_own_runs(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(30_000 + seed)
        n = int(rng.integers(8, 40))
        m = int(rng.integers(2, max(3, n // 4)))
        A, b, start = rng.standard_normal((m, n)), rng.standard_normal(m), rng.standard_normal(n)
        momentum, nesterov = float(rng.choice([0.0, 0.5])), bool(rng.integers(2))
        batch = [None, 1, 2][seed % 3]
        rule = [
            GradientDescent(momentum=momentum, nesterov=nesterov, batch_size=batch),
            RescaledFeatures(momentum=momentum, nesterov=nesterov, batch_size=batch),
            Preconditioned(
                np.exp(0.5 * rng.standard_normal(n)), momentum=momentum, nesterov=nesterov, batch_size=batch
            ),
            Preconditioned(
                np.diag(np.exp(0.3 * rng.standard_normal(n))) + 0.01,
                momentum=momentum,
                nesterov=nesterov,
                batch_size=batch,
            ),
        ][seed % 4]
        prediction = predict(rule, A, b, start)
        assert prediction.determined, f"{seed}: {prediction.reason}"
        # A step that is small enough for all rows together is small enough for some of them.
        run = simulate(rule, A, b, 0.5 * rule.scale(prediction.problem), 4000, theta0=start, seeds=2)
        assert bool(run.converged.all()), (seed, rule, run.residual)
        for end in run.point:
            assert gap(end, prediction.point) <= 1e-8, (seed, rule)


def test_runs_of_the_rules_themselves_with_their_momentum_and_batches_end_at_their_predictions():
    rules_agree_with_their_own_runs(range(6))


@pytest.mark.slow
def test_54_more_runs_of_the_rules_themselves_end_at_their_predictions():
    rules_agree_with_their_own_runs(range(6, 60))


def test_linear_rules_agree_with_a_pseudo_inverse_in_double_precision():
    for seed in range(800, 880):
        case = linear_case(seed)
        root = np.linalg.cholesky(case.D) if np.all(np.diag(case.D) > 0) else np.sqrt(case.D)
        point = case.start + root @ np.linalg.pinv(case.A @ root) @ (case.b - case.A @ case.start)
        assert gap(predict(case.rule, case.A, case.b, case.start).point, point) <= 1e-8, seed


def test_linear_rules_agree_with_the_formula_in_forty_digits():
    worst = 0.0
    with mp.workdps(40):
        for seed in range(21):
            case = linear_case(seed)
            # Half the unknowns at most, for a rank that cannot be doubted; the formula's inverse is exact.
            m = min(len(case.A), 6)
            A, D, b, start = (exact(x.tolist()) for x in (case.A[:m], case.D, case.b[:m], case.start))
            if "RescaledFeatures" in repr(case.rule):
                D = exact([[0] * A.cols for _ in range(A.cols)])
                for j in range(A.cols):
                    D[j, j] = m / mp.fsum(A[i, j] ** 2 for i in range(m))
            point = start + D * A.T * mp.lu_solve(A * D * A.T, b - A * start)
            prediction = predict(case.rule, case.A[:m], case.b[:m], case.start)
            assert prediction.determined
            worst = max(worst, gap(prediction.point, [float(x) for x in point]))
    assert worst <= 1e-11


def test_sign_descent_with_single_rows_agrees_with_the_formula_in_forty_digits():
    with mp.workdps(40):
        for seed in range(10):
            case = single_rows_case(seed)
            A, S, b, start = (exact(x.tolist()) for x in (case.A, np.sign(case.A), case.b, case.start))
            point = start + S.T * mp.lu_solve(A * S.T, b - A * start)
            prediction = predict(case.rule, case.A, case.b, case.start)
            assert gap(prediction.point, [float(x) for x in point]) <= 1e-12, seed
