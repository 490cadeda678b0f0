"""The largest row and the largest column: norms of embeddings, and of weights by their inputs or outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.norms._matrix import check_matrix
from steepest.norms._norm import Norm
from steepest.norms._scale import largest_entry

__all__ = ["MaxColumn", "MaxRow"]


class _LargestLine(Norm):
    """The largest L2 norm of a line of entries along one dimension; the dual is the sum over the lines."""

    _along: ClassVar[int]
    """The dimension along which a line runs."""

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the largest L2 norm of a line."""
        norms = self._norms(x)
        return norms.amax() if norms.numel() else norms.sum()

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the sum of the L2 norms of the lines."""
        return self._norms(g).sum()

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return g with every line divided by its norm; a line of zeros stays."""
        check_matrix(g, type(self).__name__)
        direction = g / largest_entry(g, (self._along,))
        norms = torch.linalg.vector_norm(direction, dim=self._along, keepdim=True)
        return direction.div_(torch.where(norms > 0, norms, 1))

    def _norms(self, x: Tensor) -> Tensor:
        check_matrix(x, type(self).__name__)
        scales = largest_entry(x, (self._along,))
        return torch.linalg.vector_norm(x / scales, dim=self._along, keepdim=True) * scales


@dataclass(frozen=True)
class MaxRow(_LargestLine):
    """The largest L2 norm of a row; the dual is the sum of the rows' norms; d(g) has g's rows, each of norm 1.

    For an embedding, whose rows are the vectors of the tokens. Leading dimensions are a stack, combined by max.

    >>> g = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    >>> MaxRow()(g), MaxRow().dual_norm(g)
    (tensor(5.), tensor(7.))
    """

    _along: ClassVar[int] = -1


@dataclass(frozen=True)
class MaxColumn(_LargestLine):
    """The largest L2 norm of a column; the dual is the sum of the columns' norms; d(g) has columns of norm 1.

    Leading dimensions are a stack, combined by max.

    >>> g = torch.tensor([[3.0, 0.0], [4.0, -2.0]])
    >>> MaxColumn()(g), MaxColumn().dual_norm(g)
    (tensor(5.), tensor(7.))
    """

    _along: ClassVar[int] = -2
