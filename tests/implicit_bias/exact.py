"""Linear algebra in fractions, and where rules end on small problems by it: nothing here is rounded."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import sqrt

Vector = list[Fraction]
Matrix = list[Vector]


def vector(x: object) -> Vector:
    return [Fraction(value) for value in x]


def matrix(x: object) -> Matrix:
    return [vector(row) for row in x]


def dot(x: Vector, y: Vector) -> Fraction:
    return sum((p * q for p, q in zip(x, y, strict=True)), Fraction(0))


def times(A: Matrix, x: Vector) -> Vector:
    return [dot(row, x) for row in A]


def transposed(A: Matrix) -> Matrix:
    return [list(column) for column in zip(*A, strict=True)]


def product(A: Matrix, B: Matrix) -> Matrix:
    columns = transposed(B)
    return [[dot(row, column) for column in columns] for row in A]


def reduced(rows: Matrix) -> tuple[Matrix, list[int]]:
    """The reduced row echelon form, and the columns of its pivots."""
    rows, pivots = [list(row) for row in rows], []
    for column in range(len(rows[0])):
        at = len(pivots)
        found = next((i for i in range(at, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[at], rows[found] = rows[found], rows[at]
        rows[at] = [x / rows[at][column] for x in rows[at]]
        for i, row in enumerate(rows):
            if i != at and row[column]:
                rows[i] = [x - row[column] * y for x, y in zip(row, rows[at], strict=True)]
        pivots.append(column)
        if len(pivots) == len(rows):
            break
    return rows, pivots


def rank(A: Matrix) -> int:
    return len(reduced(A)[1])


def solution(A: Matrix, b: Vector) -> Vector | None:
    """Some x with A x = b, its free entries 0, or None where there is none."""
    n = len(A[0])
    rows, pivots = reduced([[*row, value] for row, value in zip(A, b, strict=True)])
    if n in pivots:
        return None
    x = [Fraction(0)] * n
    for row, pivot in zip(rows, pivots, strict=False):
        x[pivot] = row[n]
    return x


def null_vector(A: Matrix) -> Vector | None:
    """Some x that is not 0 with A x = 0, or None."""
    n = len(A[0])
    rows, pivots = reduced(A)
    free = next((j for j in range(n) if j not in pivots), None)
    if free is None:
        return None
    x = [Fraction(int(j == free)) for j in range(n)]
    for row, pivot in zip(rows, pivots, strict=False):
        x[pivot] = -row[free]
    return x


def left_over(A: Matrix, b: Vector, theta: Vector) -> Vector:
    return [value - dot(row, theta) for row, value in zip(A, b, strict=True)]


def projection(A: Matrix, b: Vector, theta0: Vector, D: Matrix) -> Vector:
    """theta0 + D A' (A D A')^+ (b - A theta0), as the point of theta0 + range(D A') with D A' (b - A theta) = 0."""
    back = product(D, transposed(A))
    N = product(A, back)
    l = solution(product(back, N), times(back, left_over(A, b, theta0)))  # noqa: E741
    assert l is not None, "normal equations have a solution"
    return [start + move for start, move in zip(theta0, times(back, l), strict=True)]


def largest_margin(Z: Matrix, D: Matrix) -> Vector | None:
    """The w of least w' D^-1 w with Z w >= 1, or None where there is none: by all sets of rows that hold with equality.

    w = D Z_S' l with Z_S w = 1, l >= 0 and Z w >= 1 are the conditions of a convex program: sufficient, and with S
    independent some S has them.
    """
    back = product(D, transposed(Z))
    for size in range(1, len(Z) + 1):
        for S in itertools.combinations(range(len(Z)), size):
            columns = [[row[i] for i in S] for row in back]
            system = [[dot(Z[i], [row[k] for row in columns]) for k in range(size)] for i in S]
            if rank(system) < size:
                continue
            l = solution(system, [Fraction(1)] * size)  # noqa: E741
            w = times(columns, l)
            if min(l) >= 0 and min(times(Z, w)) >= 1:
                return w
    return None


def unit(w: Vector) -> list[float]:
    largest = max(map(abs, w))
    scaled = [float(x / largest) for x in w]
    length = sqrt(sum(x * x for x in scaled))
    return [x / length for x in scaled]
