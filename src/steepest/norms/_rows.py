"""The largest row, the largest column: norms of tables and of weights seen from one side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.norms._matrix import check_matrix
from steepest.norms._norm import Norm
from steepest.norms._scale import largest_entry

__all__ = ["MaxColumn", "MaxRow"]


@dataclass(frozen=True)
class MaxRow(Norm):
    """The largest L2 norm of a row; the dual is the sum of the rows' norms; d(g) has g's rows, each of norm 1.

    For an embedding, whose rows are the vectors of the tokens. Leading dimensions are a stack, combined by max.

    >>> g = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    >>> MaxRow()(g), MaxRow().dual_norm(g)
    (tensor(5.), tensor(7.))
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the largest L2 norm of a row."""
        check_matrix(x, "MaxRow")
        return _norms(x, dim=-1).amax() if x.numel() else x.new_zeros(())

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the sum of the L2 norms of the rows."""
        check_matrix(g, "MaxRow")
        return _norms(g, dim=-1).sum()

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return g with every row divided by its norm; a row of zeros stays."""
        check_matrix(g, "MaxRow")
        return _normalized(g, dim=-1)


@dataclass(frozen=True)
class MaxColumn(Norm):
    """The largest L2 norm of a column; the dual is the sum of the columns' norms; d(g) has columns of norm 1.

    Leading dimensions are a stack, combined by max.

    >>> g = torch.tensor([[3.0, 0.0], [4.0, -2.0]])
    >>> MaxColumn()(g), MaxColumn().dual_norm(g)
    (tensor(5.), tensor(7.))
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the largest L2 norm of a column."""
        check_matrix(x, "MaxColumn")
        return _norms(x, dim=-2).amax() if x.numel() else x.new_zeros(())

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the sum of the L2 norms of the columns."""
        check_matrix(g, "MaxColumn")
        return _norms(g, dim=-2).sum()

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return g with every column divided by its norm; a column of zeros stays."""
        check_matrix(g, "MaxColumn")
        return _normalized(g, dim=-2)


def _norms(x: Tensor, dim: int) -> Tensor:
    scales = largest_entry(x, (dim,))
    return torch.linalg.vector_norm(x / scales, dim=dim, keepdim=True) * scales


def _normalized(g: Tensor, dim: int) -> Tensor:
    direction = g / largest_entry(g, (dim,))
    norms = torch.linalg.vector_norm(direction, dim=dim, keepdim=True)
    return direction.div_(torch.where(norms > 0, norms, 1))
