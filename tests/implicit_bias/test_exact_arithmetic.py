"""Small problems against exact arithmetic: what is said to be determined is right, and what is determined is said."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from tests.implicit_bias import exact
from tests.implicit_bias.exact import Matrix, Vector

from steepest.implicit_bias import (
    Entropy,
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
)
from steepest.norms import L1, LInf

SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5)


@dataclass(frozen=True)
class Case:
    """A problem, and where theory says that the rule ends.

    Attributes:
        rule: The rule.
        A: m x n.
        b: m.
        theta0: n.
        loss: As for predict.
        limit: Its point, or the direction in which it grows; None where nothing is determined.
        grows: Whether the limit is a direction.
    """

    rule: Any
    A: list[list[float]]
    b: list[float]
    theta0: list[float]
    loss: str
    limit: Vector | None
    grows: bool = False


def equations(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small whole numbers, of full rank or not, with zero rows and columns, solved at the start, elsewhere or never."""
    m, n = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    A = rng.integers(-4, 5, (m, n))
    kind = rng.integers(6)
    if kind == 0 and min(m, n) > 1:
        r = int(rng.integers(1, min(m, n)))
        A = rng.integers(-2, 3, (m, r)) @ rng.integers(-2, 3, (r, n))
    elif kind == 1 and m > 1:
        A[-1] = A[0] * rng.integers(-2, 3)
    if rng.random() < 0.2:
        A[:, rng.integers(n)] = 0
    if rng.random() < 0.15:
        A[rng.integers(m)] = 0
    start = rng.integers(-3, 4, n) if rng.random() < 0.5 else np.zeros(n, dtype=int)
    how = rng.random()
    if how < 0.4:
        b = rng.integers(-4, 5, m)
    elif how < 0.85:
        b = A @ rng.integers(-3, 4, n)
    else:
        b = A @ start
    return A, b, start


def diagonal(entries: Vector) -> Matrix:
    return [[d if i == j else Fraction(0) for j in range(len(entries))] for i, d in enumerate(entries)]


def preconditioner(rng: np.random.Generator, n: int) -> tuple[list[float] | list[list[float]], Matrix]:
    """D as it is passed and as it is, from 1e-8 to 1e8: a diagonal, with zeros now and then, or a matrix."""
    if rng.random() < 0.5:
        d = 10.0 ** rng.integers(-8, 9, n) if rng.random() < 0.5 else 10.0 ** rng.uniform(-8, 8, n)
        if rng.random() < 0.2:
            d[rng.integers(n)] = 0.0
        return d.tolist(), diagonal(exact.vector(d.tolist()))
    root, units = rng.integers(-2, 3, (n, n)), 2.0 ** rng.integers(-13, 14, n)
    D = ((root @ root.T + np.eye(n)) * units * units[:, None]).tolist()
    return D, exact.matrix(D)


def linear(rng: np.random.Generator) -> Case:
    """Gradient descent with some D."""
    A, b, start = equations(rng)
    m, n = A.shape
    momentum, batch = float(rng.choice([0.0, 0.5])), [None, 1, 2][int(rng.integers(3))]
    options = {"momentum": momentum, "nesterov": bool(rng.integers(2)), "batch_size": batch}
    D = diagonal([Fraction(1)] * n)
    kind = rng.integers(8)
    if kind < 2:
        rule: Any = GradientDescent(**options)
    elif kind < 5:
        given, D = preconditioner(rng, n)
        rule = Preconditioned(given, **options)
    elif kind == 5:
        rule = RescaledFeatures(**options)
        squares = [Fraction(int(s)) for s in (A * A).sum(axis=0)]
        D = diagonal([1 / s if s else Fraction(1) for s in squares])
    elif kind == 6:
        rule, batch = SGD, None
    else:
        rule = MirrorDescent(PNorm(2), momentum=momentum, batch_size=batch)
    rows, targets, theta0 = exact.matrix(A.tolist()), exact.vector(b.tolist()), exact.vector(start.tolist())
    limit: Vector | None = exact.projection(rows, targets, theta0, D)
    # Rows that D lets nothing move of have no part in a gradient.
    moved = [any(exact.times(D, row)) for row in rows]
    left = [x for x, counts in zip(exact.left_over(rows, targets, limit), moved, strict=True) if counts]
    minibatches = batch is not None and batch < m
    if any(left) and (
        minibatches or (isinstance(rule, MirrorDescent) and any(limit[j] != theta0[j] for j in range(n)))
    ):
        limit = None
    if any(left) and isinstance(rule, MirrorDescent) and limit is not None:
        limit = theta0 if not any(exact.times(exact.transposed(rows), exact.left_over(rows, targets, theta0))) else None
    return Case(rule, A.tolist(), b.tolist(), start.tolist(), "squared", limit)


def direction(rule: Any, a: Vector) -> Vector | None:
    """Where the steps of the rule go on the equation <a, theta> = b."""
    if isinstance(rule, NormSteepest) and rule.norm == L1():
        largest = [j for j, x in enumerate(a) if abs(x) == max(map(abs, a))]
        return None if len(largest) > 1 else [Fraction(int(j == largest[0])) for j in range(len(a))]
    if isinstance(rule, MirrorDescent):
        return [x * abs(x) for x in a]
    return [Fraction((x > 0) - (x < 0)) for x in a]


def others(rng: np.random.Generator) -> Case:
    """Rules that are no linear maps of gradients: on one equation, at rest, and where only one solution is."""
    A, b, start = equations(rng)
    if rng.random() < 0.6:
        A, b = A[:1], b[:1]
        b = b if rng.random() < 0.9 else A @ start
    rule = [
        SignDescent(),
        EpochAdam(),
        NormSteepest(L1()),
        NormSteepest(LInf(), "constrained"),
        MirrorDescent(PNorm(1.5)),
    ][int(rng.integers(5))]
    mirror = isinstance(rule, MirrorDescent)
    start = np.zeros_like(start) if mirror else start
    every, all_targets = exact.matrix(A.tolist()), exact.vector(b.tolist())
    theta0 = exact.vector(start.tolist())
    felt = [i for i, row in enumerate(every) if any(row)]
    rows, targets = [every[i] for i in felt], [all_targets[i] for i in felt]
    limit: Vector | None = None
    if not rows or not any(exact.times(exact.transposed(rows), exact.left_over(rows, targets, theta0))):
        limit = theta0
    else:
        some = exact.solution(rows, targets)
        if some is not None and exact.rank(rows) == len(theta0):
            limit = some
        elif some is not None and exact.rank(rows) == 1:
            along = direction(rule, rows[0])
            if along is not None:
                share = exact.left_over(rows, targets, theta0)[0] / exact.dot(rows[0], along)
                limit = [start + share * step for start, step in zip(theta0, along, strict=True)]
        elif mirror and some is not None:
            return others(rng)  # a projection that is no fraction
    return Case(rule, A.tolist(), b.tolist(), start.tolist(), "squared", limit)


def entropy(rng: np.random.Generator) -> Case:
    """Mirror descent with the entropy multiplies: rows of ones that share no unknown are scaled each by itself."""
    m, n = int(rng.integers(1, 4)), int(rng.integers(3, 6))
    which = rng.integers(-1, m, n)
    factors = rng.choice([1, 2, -1], m)
    A = np.array([which == i for i in range(m)]) * factors[:, None]
    start, wanted = rng.integers(1, 5, n), rng.integers(1, 9, m)
    b = factors * wanted
    limit = exact.vector(start.tolist())
    for i in range(m):
        total = sum((limit[j] for j in range(n) if which[j] == i), Fraction(0))
        for j in range(n):
            if which[j] == i:
                limit[j] = limit[j] * int(wanted[i]) / total
    rule = MirrorDescent(Entropy(), batch_size=[None, 1][int(rng.integers(2))])
    return Case(rule, A.tolist(), b.tolist(), start.tolist(), "squared", limit)


def labelled(rng: np.random.Generator) -> Case:
    """Labels: a largest margin, every example with its opposite, or means of signs."""
    A, _, start = equations(rng)
    loss = ["logistic", "exponential"][int(rng.integers(2))]
    m, n = A.shape
    b = rng.choice([-1, 1], m)
    given, D = (rng.integers(1, 5, n).astype(float).tolist(), None) if rng.random() < 0.5 else (None, None)
    D = diagonal(exact.vector(given or [1] * n))
    rule: Any = GradientDescent(momentum=float(rng.choice([0, 0.5]))) if given is None else Preconditioned(given)
    theta0 = exact.vector(start.tolist())
    if rng.random() < 0.3:
        signs = b[:, None] * np.sign(A)
        mean = exact.vector(signs.sum(axis=0).tolist())
        limit = mean if any(mean) else None
        rest = not A.any() or (m == 1 and not A.any())
        limit = theta0 if rest else limit
        return Case(SignDescent(batch_size=1), A.tolist(), b.tolist(), start.tolist(), loss, limit, not rest)
    if rng.random() < 0.5:
        A, b = np.vstack([A, A]), np.r_[b, -b]
        limit = exact.projection(exact.matrix(A.tolist()), [Fraction(0)] * (2 * m), theta0, D)
        return Case(rule, A.tolist(), b.tolist(), start.tolist(), loss, limit)
    signed = [[int(label) * x for x in row] for row, label in zip(exact.matrix(A.tolist()), b, strict=True) if any(row)]
    if not signed:
        return Case(rule, A.tolist(), b.tolist(), start.tolist(), loss, theta0)
    w = exact.largest_margin(signed, D)
    if w is None:
        return labelled(rng)
    return Case(rule, A.tolist(), b.tolist(), start.tolist(), loss, w, True)


DRAWN = [linear, linear, linear, others, entropy, labelled]


def compared(case: Case) -> str:
    """How the prediction and its certificates compare with theory."""
    prediction = predict(case.rule, case.A, case.b, case.theta0, case.loss)
    if case.limit is None:
        return "wrong: determined" if prediction.determined or prediction.certificate.passed else "right"
    if not prediction.determined:
        return "missing"
    right = np.array(exact.unit(case.limit) if case.grows else [float(x) for x in case.limit])
    found = prediction.direction if case.grows else prediction.point
    if found is None:
        return "wrong: kind"
    start = np.array(case.theta0, dtype=float)
    size = 1.0 if case.grows else max(np.abs(right - start).max(), 1e-5)
    if np.abs(found.numpy() - right).max() > 1e-9 * size:
        return "wrong: point"

    def passes(end: np.ndarray) -> bool:
        return certify(case.rule, case.A, case.b, end, case.theta0, case.loss).passed

    if not passes(right):
        return "missing: certificate"
    if not case.grows:
        # A coordinate whose column is 0 moves only with a preconditioner that couples it to others.
        coupled = isinstance(case.rule, Preconditioned) and case.rule.diagonal.ndim == 2
        idle = [] if coupled else [j for j in range(len(start)) if not any(row[j] for row in case.A)]
        if any(found[j] != start[j] for j in idle):
            return "wrong: a zero column moved"
        if any(passes(right + 1e-6 * max(abs(start[j]), 1e-3) * np.eye(len(start))[j]) for j in idle):
            return "wrong: certificate of a moved column"
        aside = exact.null_vector(exact.matrix(case.A))
        if aside is not None:
            away = np.array([float(x) for x in aside])
            if passes(right + 1e-3 * max(float(np.abs(right - start).max()), 1.0) * away / np.abs(away).max()):
                return "wrong: certificate of another solution"
    return "right"


def counted(seeds: range) -> tuple[Counter[str], list[str]]:
    """How often what came out, and the worst of it."""
    counts: Counter[str] = Counter()
    bad: list[str] = []
    for seed in seeds:
        case = DRAWN[seed % len(DRAWN)](np.random.default_rng(seed))
        said = compared(case)
        counts[said] += 1
        if said != "right":
            bad.append(f"{seed} {said}: {case}")
    return counts, bad


def agree(seeds: range) -> None:
    counts, bad = counted(seeds)
    assert not [line for line in bad if "wrong" in line.split(":")[0]], bad[:5]
    assert len(seeds) - counts["right"] <= 0.005 * len(seeds), (counts, bad[:5])


def test_500_small_problems_agree_with_exact_arithmetic():
    agree(range(504))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_20000_small_problems_agree_with_exact_arithmetic(part):
    agree(range(1000 + 2000 * part, 3000 + 2000 * part))
