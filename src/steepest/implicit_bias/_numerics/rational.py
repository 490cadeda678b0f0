"""The limit of a preconditioned gradient method in fractions: exact, where float64 is not enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

__all__ = ["Metric", "Solved", "affordable", "is_zero", "solved"]

_MOST = 60_000
"""Products of fractions, about half a second."""

Row = list[Fraction]
Metric = Tensor | None
"""D: n entries of a diagonal, n x n, or None for the identity."""


@dataclass(frozen=True, eq=False)
class Solved:
    """The limit, rounded once.

    Attributes:
        theta: n.
        image: A theta, m.
        felt: What rounding acts upon, n: |K| (|b| + unsure + |A| |theta0|), where theta = theta0 + K (b - A theta0).
        exact: Whether the equations have a solution, exactly or to their rounding.
        chosen: Rows that are independent, and of which all others are combinations.
    """

    theta: Tensor
    image: Tensor
    felt: Tensor
    exact: bool
    chosen: list[int]


def affordable(shape: Sequence[int], rank: int) -> bool:
    """Return whether `solved` takes less than about a second."""
    m, n = shape
    return m * rank * (n + rank) + rank**3 <= _MOST


def solved(
    A: Tensor, b: Tensor, theta0: Tensor, D: Metric, still: Tensor, rank: int, slack: float, unsure: float
) -> Solved | None:
    """Return theta0 + D A' (A D A')^+ (b - A theta0), or None where A D has another rank exactly.

    With G some rows that are independent, M = G D G' and F = A D G' M^-1, so that A = F G on what D moves,

        theta = theta0 + D G' M^-1 (F'F)^-1 F' (b - A theta0).

    Args:
        A: m x n.
        b: m.
        theta0: n.
        D: What multiplies gradients.
        still: Where a solution of the equations is looked for, n: what cannot move, 0 elsewhere.
        rank: The rank of A on the coordinates that D moves.
        slack: As `Problem.slack`.
        unsure: What rounding in the targets is relative to, beside themselves.
    """
    rows, start, origin, targets = [_row(a) for a in A], _row(theta0), _row(still), _row(b)
    weighted = _weighted(D, rows)
    chosen = _independent(weighted)
    if len(chosen) != rank:
        return None
    moves = [weighted[i] for i in chosen]
    inverse = _inverse([[_dot(move, rows[i]) for i in chosen] for move in moves])
    if inverse is None:
        return None
    F = [_applied(inverse, [_dot(a, move) for move in moves]) for a in rows]
    columns = list(zip(*F, strict=True))
    squares = _inverse([[_dot(x, y) for y in columns] for x in columns])
    if squares is None:
        return None
    fitted = [_applied(inverse, _applied(squares, f)) for f in F]
    gains = [_combined(y, moves) for y in fitted]
    due = [value - _dot(a, start) for a, value in zip(rows, targets, strict=True)]
    theta, exact = _plus(start, _combined(due, gains)), True
    left = [value - _dot(f, [due[j] for j in chosen]) for f, value in zip(F, due, strict=True)]
    if any(left):
        near = _plus(
            origin, _combined([value - _dot(a, origin) for a, value in zip(rows, targets, strict=True)], gains)
        )
        sizes = [_dot(map(abs, a), map(abs, near)) + abs(x) for a, x in zip(rows, targets, strict=True)]
        within = all(abs(x) <= Fraction(slack) * size for x, size in zip(left, sizes, strict=True))
        # What is left must be rounding, and must not move theta, however the rows are weighted.
        moved = sum((_norm(gain) * abs(x) for gain, x in zip(gains, left, strict=True)), 0.0)
        exact = within and moved <= max(1e-9, 10 * slack) * _norm([x - y for x, y in zip(near, origin, strict=True)])
    sums = [abs(x) + Fraction(unsure) + _dot(map(abs, a), map(abs, start)) for a, x in zip(rows, targets, strict=True)]
    felt = _combined(sums, [[abs(x) for x in gain] for gain in gains])
    return Solved(_tensor(theta), _tensor([_dot(a, theta) for a in rows]), _tensor(felt), exact, chosen)


def is_zero(A: Tensor, theta: Tensor, b: Tensor, together: bool) -> bool:
    """Return whether A theta = b, or all `together` A' (A theta - b) = 0, exactly."""
    rows, point = [_row(a) for a in A], _row(theta)
    left = [_dot(a, point) - value for a, value in zip(rows, _row(b), strict=True)]
    return not any(_dot(left, column) for column in zip(*rows, strict=True)) if together else not any(left)


def _independent(rows: list[Row]) -> list[int]:
    """Return which rows are no combinations of those before."""
    found: list[tuple[int, Row]] = []
    chosen: list[int] = []
    for i, row in enumerate(rows):
        left = row
        for pivot, head in found:
            factor = left[pivot]
            if factor:
                left = [x - factor * y for x, y in zip(left, head, strict=True)]
        pivot = next((j for j, x in enumerate(left) if x), None)
        if pivot is not None:
            found.append((pivot, [x / left[pivot] for x in left]))
            chosen.append(i)
    return chosen


def _inverse(M: list[Row]) -> list[Row] | None:
    """Return M^-1 by Gauss's elimination, or None where M is singular."""
    n = len(M)
    rows = [[*row, *(Fraction(int(i == k)) for i in range(n))] for k, row in enumerate(M)]
    for k in range(n):
        pivot = next((i for i in range(k, n) if rows[i][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        head = rows[k][k]
        rows[k][k:] = [x / head for x in rows[k][k:]]
        for i in range(n):
            factor = rows[i][k]
            if i != k and factor:
                rows[i][k:] = [x - factor * y for x, y in zip(rows[i][k:], rows[k][k:], strict=True)]
    return [row[n:] for row in rows]


def _applied(M: list[Row], x: Row) -> Row:
    return [_dot(row, x) for row in M]


def _combined(shares: Iterable[Fraction], rows: list[Row]) -> Row:
    """Return sum_k shares_k rows_k."""
    total = [Fraction(0)] * len(rows[0])
    for share, row in zip(shares, rows, strict=True):
        if share:
            total = [t + share * x if x else t for t, x in zip(total, row, strict=True)]
    return total


def _plus(x: Row, y: Row) -> Row:
    return [p + q for p, q in zip(x, y, strict=True)]


def _row(x: Tensor) -> Row:
    return [Fraction(value) for value in x.tolist()]


def _weighted(D: Metric, rows: list[Row]) -> list[Row]:
    """Return rows D."""
    if D is None:
        return rows
    if D.ndim == 2:
        columns = [_row(d) for d in D]
        return [[_dot(row, column) for column in columns] for row in rows]
    weights = _row(D)
    return [[w * x for w, x in zip(weights, row, strict=True)] for row in rows]


def _dot(x: Iterable[Fraction], y: Iterable[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(x, y, strict=True) if p and q), Fraction(0))


def _norm(x: Row) -> float:
    largest = max(map(abs, x))
    return float(largest) * float(sum((value / largest) ** 2 for value in x)) ** 0.5 if largest else 0.0


def _tensor(x: Row) -> Tensor:
    return torch.tensor([float(value) for value in x], dtype=torch.float64)
