"""Singular values, and the numerical rank, or that it is ambiguous."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Factors", "balanced", "decomposed", "factors", "lengths", "obviously_full", "rank_of", "solves"]

_GAP = 1e-10
_OBVIOUS = 1e4
"""A matrix of full rank and a condition below it has full rank in any units."""


@dataclass(frozen=True, eq=False)
class Factors:
    """C = left diag(singular_values) right', with the singular values that are not 0 only.

    Attributes:
        left: m x r.
        singular_values: r, descending.
        right: n x r; its rows are exactly 0 where columns of C are.
        clear: Whether every other singular value is rounding: between the precision of C and 1e-10 of the largest one
            that cannot be decided, and a gradient method would need 1e20 steps.
        still: The columns that are 0, or None if there are none.
        condition: The largest singular value over the smallest of these; 1 if there are none.
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor
    clear: bool
    still: Tensor | None
    condition: float

    @property
    def rank(self) -> int:
        """The number of singular values that are not 0."""
        return len(self.singular_values)

    def solve(self, r: Tensor) -> Tensor:
        """Return the solution of smallest norm of C x = r, in least squares."""
        return self.right @ ((self.left.mT @ r) / self.singular_values)


def factors(C: Tensor, precision: float) -> Factors:
    """Return the singular value decomposition of C, m x n, whose entries are known to `precision`.

    Pass rows of length 1 (`lengths`), so that a short row is not taken for rounding. Where something is dropped as
    rounding, the rank is clear only if `rank_of` finds the same.
    """
    found = decomposed(C, precision)
    if found.rank == min(C.shape) or not found.clear or not found.rank:
        return found
    return replace(found, clear=rank_of(C, precision) == found.rank)


def decomposed(C: Tensor, precision: float) -> Factors:
    """Return the singular value decomposition without those that are rounding, by these singular values alone."""
    moving = C.any(dim=0)
    whole = bool(moving.all())
    left, values, right = torch.linalg.svd(C if whole else C[:, moving], full_matrices=False)
    each = values.tolist()
    rank, clear = _told(each, C, precision)
    basis = right[:rank].mT
    if not whole:
        # Rounding would move coordinates that no row touches.
        basis = C.new_zeros(C.shape[1], rank)
        basis[moving] = right[:rank].mT
    condition = each[0] / each[rank - 1] if rank else 1.0
    return Factors(left[:, :rank], values[:rank], basis, clear, None if whole else ~moving, condition)


def rank_of(A: Tensor, precision: float) -> int | None:
    """Return the rank of A, or None where it is ambiguous.

    It is looked for in units of rows and columns in which all entries are as near to 1 as they can be, so that neither
    other units nor another order of rows or columns change the answer.
    """
    rank, clear = _told(torch.linalg.svdvals(balanced(A)).tolist(), A, precision)
    return rank if clear else None


def obviously_full(found: Factors, C: Tensor) -> bool:
    """Return whether C has full rank in any units."""
    return found.rank == min(C.shape) and found.condition < _OBVIOUS


def balanced(A: Tensor) -> Tensor:
    """Return A with rows and columns multiplied by powers of 2, so that logarithms of entries sum to about 0 in each.

    Source: Curtis and Reid, "On the Automatic Scaling of Matrices for Gaussian Elimination" (1972,
    doi:10.1093/imamat/10.1.118).
    """
    there = A != 0
    logs = torch.where(there, A.abs(), 1).log2()
    in_row, in_column = there.sum(dim=1).clamp_min(1), there.sum(dim=0).clamp_min(1)
    rows, columns = logs.new_zeros(A.shape[0]), logs.new_zeros(A.shape[1])
    for _ in range(30):
        rows = -(logs + there * columns).sum(dim=1) / in_row
        columns = -(logs + there * rows[:, None]).sum(dim=0) / in_column
    # Rounded together, and applied at once, so that nothing overflows on the way.
    return torch.where(there, torch.ldexp(A, rows.round()[:, None] + columns.round()), 0.0)


def _told(values: list[float], C: Tensor, precision: float) -> tuple[int, bool]:
    """Return how many singular values, descending, are not rounding, and whether that can be told of each."""
    largest = values[0] if values else 0.0
    low = min(max(C.shape) * precision, 1e-3) * largest
    kept = [value for value in values if value > low]
    return len(kept), not kept or kept[-1] > max(_GAP * largest, 10 * low)


def lengths(A: Tensor) -> Tensor:
    """Return ||a_i||_2 of the rows, 1 for rows of zeros."""
    largest = A.abs().amax(dim=1)
    largest = torch.where(largest > 0, largest, 1)
    return torch.linalg.vector_norm(A / largest[:, None], dim=1).clamp_min(1.0) * largest


def solves(A: Tensor, theta: Tensor, b: Tensor, slack: float) -> bool:
    """Return whether A theta = b holds in every row, to `slack` of the numbers that go into that row.

    Source: Oettli and Prager, "Compatibility of Approximate Solution of Linear Equations with Given Error Bounds for
    Coefficients and Right-hand Sides" (1964, doi:10.1007/BF01386090).
    """
    return bool(((A @ theta - b).abs() <= slack * (A.abs() @ theta.abs() + b.abs())).all())
