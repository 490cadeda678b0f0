"""Singular values, with a rank that is said to be unclear where it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factors", "factors", "lengths", "solves"]

_GAP = 1e-10


@dataclass(frozen=True, eq=False)
class Factors:
    """C = left diag(singular_values) right', with the singular values that are not 0 only.

    Attributes:
        left: m x r.
        singular_values: r, descending.
        right: n x r.
        clear: Whether every other singular value is rounding: between the precision of C and 1e-10 of the largest one
            nobody can tell, and a gradient method would need 1e20 steps to.
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor
    clear: bool

    @property
    def rank(self) -> int:
        """The number of singular values that are not 0."""
        return len(self.singular_values)

    @property
    def condition(self) -> float:
        """The largest over the smallest of them."""
        return float(self.singular_values[0] / self.singular_values[-1])

    def solve(self, r: Tensor) -> Tensor:
        """Return the solution of smallest norm of C x = r, in least squares."""
        return self.right @ ((self.left.mT @ r) / self.singular_values)

    def reachable(self, r: Tensor) -> Tensor:
        """Return the part of r in the range of C."""
        return self.left @ (self.left.mT @ r)


def factors(C: Tensor, precision: float) -> Factors:
    """Return the singular value decomposition of C, m x n, whose entries are known to `precision`.

    Pass rows of length 1 (`lengths`), so that a short row is not taken for rounding. Where something is dropped as
    rounding, the rank is clear only if rows and columns of length 1 have no more of it.
    """
    left, values, right = torch.linalg.svd(C, full_matrices=False)
    kept, between = _split(values, C, precision)
    rank, clear = int(kept.sum()), not bool(between.any())
    if rank < len(values):
        scaled = C / lengths(C)[:, None]
        scaled = scaled / lengths(scaled.mT)
        more, unclear = _split(torch.linalg.svdvals(scaled), C, precision)
        clear = clear and int(more.sum()) == rank and not bool(unclear.any())
    return Factors(left[:, :rank], values[:rank], right[:rank].mT, clear)


def _split(values: Tensor, C: Tensor, precision: float) -> tuple[Tensor, Tensor]:
    """Return which singular values are not rounding, and which of them nobody can tell."""
    largest = float(values[0])
    low = min(max(C.shape) * precision, 1e-3) * largest
    kept = values > low
    return kept, kept & (values <= max(_GAP * largest, 10 * low))


def lengths(A: Tensor) -> Tensor:
    """Return ||a_i||_2 of the rows, 1 for rows of zeros."""
    largest = A.abs().amax(dim=1)
    largest = torch.where(largest > 0, largest, 1)
    return torch.linalg.vector_norm(A / largest[:, None], dim=1).clamp_min(1.0) * largest


def solves(A: Tensor, theta: Tensor, b: Tensor, slack: float) -> bool:
    """Return whether A theta = b holds in every row, to `slack` of the numbers that go into that row.

    Source: Oettli and Prager, "Compatibility of Approximate Solution of Linear Equations with Given Error Bounds for
    Coefficients and Right-hand Sides" (1964).
    """
    return bool(((A @ theta - b).abs() <= slack * (A.abs() @ theta.abs() + b.abs())).all())
