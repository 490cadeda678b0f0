"""The rows of a parameter's block of the Jacobian, and its products with vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from steepest.linearize._factors import Factor
from steepest.linearize._trace.factorize import Placed

__all__ = ["matvec", "rmatvec", "rows_of", "single"]


def single(placed: Sequence[Placed]) -> Factor | None:
    """Return the factor of a whole weight that is one product, or None."""
    return placed[0][0] if len(placed) == 1 and placed[0][1] is None else None


def rows_of(placed: Sequence[Placed], size: int) -> Tensor:
    """Return the rows [n, C, size] of one parameter."""
    whole = single(placed)
    if whole is not None:
        return whole.rows()
    first = placed[0][0].rows()
    total = first.new_zeros(*first.shape[:2], size)
    for factor, index in placed:
        rows = factor.rows()
        if index is None:
            total += rows
        else:
            total.index_add_(2, index, rows)
    return total


def matvec(placed: Sequence[Placed], v: Tensor) -> Tensor | None:
    """Return J v, [n, C, m], for v of shape [size, m]; None where the block is zero."""
    total: Tensor | None = None
    for factor, index in placed:
        part = factor.matvec(v if index is None else v[index])
        total = part if total is None else total + part
    return total


def rmatvec(placed: Sequence[Placed], u: Tensor, out: Tensor, add: bool = False) -> None:
    """Write (J' u)', or add it, [m, size], for u of shape [n, C, m]."""
    for factor, index in placed:
        if index is None:
            factor.rmatvec(u, out, add)
        else:
            part = out.new_empty(len(out), len(index))
            factor.rmatvec(u, part, add=False)
            (out if add else out.zero_()).index_add_(1, index, part)
        add = True
    if not add:
        out.zero_()
