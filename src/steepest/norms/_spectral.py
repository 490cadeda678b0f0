"""The spectral norm of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from steepest._check import boolean
from steepest._shapes import Float
from steepest.norms._matrix import OfSingularValues, check_matrix
from steepest.norms._norm import Norm
from steepest.norms._points import check_list
from steepest.norms._polar.factor import polar_factor
from steepest.norms._vector import LInf

__all__ = ["Spectral"]


@dataclass(frozen=True)
class Spectral(OfSingularValues):
    """The largest singular value; the dual is the nuclear norm; d(g) = U V' of g = U S V'.

    Leading dimensions are a stack of matrices, combined by max (the dual by sum).

    Args:
        exact: With False the duality map is iterative (see `polar_factor`), its norm lies within 0.15 of 1,
            and `dual_norm` is <g, d(g)> / ||d(g)||, the value that this map attains. With True all is exact.

    >>> g = torch.tensor([[3.0, 0.0], [0.0, -2.0]])
    >>> Spectral(exact=True)(g), Spectral(exact=True).dual_norm(g)
    (tensor(3.), tensor(5.))
    """

    exact: bool = False

    def __post_init__(self) -> None:
        boolean("exact", self.exact)

    @property
    def of_values(self) -> Norm:
        """LInf."""
        return LInf()

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the sum of all singular values, or the part of it that the iterative map attains."""
        return super().dual_norm(g) if self.exact else self.duality_pair(g)[1]

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the polar factor of every matrix in the stack."""
        check_matrix(g, "Spectral")
        return polar_factor(g, exact=self.exact)

    def duality_pair(self, g: Float[Tensor, "*shape"]) -> tuple[Tensor, Float[Tensor, ""]]:
        """Return d(g) / ||d(g)|| and <g, d(g)> / ||d(g)||; the polar factor and the nuclear norm if exact."""
        if self.exact:
            return super().duality_pair(g)
        direction = self.duality_map(g)
        norm = self(direction)
        direction.div_(torch.where(norm > 0, norm, 1))
        return direction, (g.detach() * direction).sum()

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return the polar factors, those of matrices of one shape computed as a stack, which holds a copy of them."""
        check_list(gs)
        alike: dict[tuple[object, ...], list[int]] = {}
        for i, g in enumerate(gs):
            check_matrix(g, "Spectral")
            key = (g.shape, g.dtype, g.device) if g.ndim == 2 else (i,)
            alike.setdefault(key, []).append(i)
        maps: dict[int, Tensor] = {}
        for indices in alike.values():
            if len(indices) == 1:
                maps[indices[0]] = self.duality_map(gs[indices[0]])
            else:
                maps.update(zip(indices, self.duality_map(torch.stack([gs[i] for i in indices])).unbind(), strict=True))
        return [maps[i] for i in range(len(gs))]

    def exactly(self) -> Self:
        """Return Spectral(exact=True)."""
        return type(self)(exact=True)
