"""A norm of each part of a tensor: attention heads, fused projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Self

import torch
from torch import Tensor

from steepest._check import at_least
from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.norms._norm import Norm, check_norm
from steepest.norms._points import check_list, check_tensor

__all__ = ["Split"]


@dataclass(frozen=True)
class Split(Norm):
    """||x|| = max over the parts of norm(part); the dual is the sum of the parts' dual norms; d maps each part.

    So a fused projection steps as its separate parts would, and each head is orthogonalised separately.

    Args:
        norm: The norm of a part.
        parts: The number of equal parts, or their sizes.
        dim: The dimension that is split.

    Raises:
        InvalidArgument: If norm is not the norm of a tensor, parts is not a positive count or a sequence of positive
            sizes, or dim is no dimension; when called, if the tensor cannot be cut so.

    >>> from steepest.norms import Spectral
    >>> qkv = torch.eye(2).repeat(3, 1)
    >>> norm = Split(Spectral(exact=True), parts=3, dim=0)
    >>> norm(qkv), norm.dual_norm(qkv)
    (tensor(1.), tensor(6.))
    """

    norm: Norm
    parts: int | tuple[int, ...]
    dim: int = 0

    def __init__(self, norm: Norm, parts: int | Sequence[int], dim: int = 0) -> None:
        remedy = "Try parts=3 for q, k and v."
        if isinstance(parts, (list, tuple)):
            checked: Any = tuple(at_least("parts", size, 1, remedy=remedy) for size in parts)
            if not checked:
                raise InvalidArgument("parts must be a count or sizes", got=parts, remedy=remedy)
        else:
            checked = at_least("parts", parts, 1, remedy=remedy)
        object.__setattr__(self, "norm", check_norm(norm))
        object.__setattr__(self, "parts", checked)
        object.__setattr__(self, "dim", at_least("dim", dim, -64, most=63))

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the largest norm of a part."""
        return torch.stack([self.norm(part) for part in self._cut(x)]).amax()

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the sum of the dual norms of the parts."""
        return torch.stack([self.norm.dual_norm(part) for part in self._cut(g)]).sum()

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the parts' duality maps, put together again."""
        return self.duality_maps([g])[0]

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return the duality maps, all parts of all tensors at once."""
        check_list(gs)
        cuts = [self._cut(g) for g in gs]
        maps = self.norm.duality_maps([part for cut in cuts for part in cut])
        ends = accumulate((len(cut) for cut in cuts), initial=0)
        return [torch.cat(maps[start:end], self.dim) for start, end in pairwise(ends)]

    def duality_pair(self, g: Float[Tensor, "*shape"]) -> tuple[Tensor, Float[Tensor, ""]]:
        """Return the parts' maps put together, and the sum of their dual norms."""
        maps, duals = zip(*[self.norm.duality_pair(part) for part in self._cut(g)], strict=True)
        return torch.cat(maps, self.dim), torch.stack(duals).sum()

    def exactly(self) -> Self:
        """Return the same with nothing approximated in norm."""
        return replace(self, norm=self.norm.exactly())

    def _cut(self, x: Tensor) -> Sequence[Tensor]:
        check_tensor(x)
        length = x.shape[self.dim] if -x.ndim <= self.dim < x.ndim else 0
        if isinstance(self.parts, int) and length and length % self.parts == 0:
            return x.split(length // self.parts, self.dim)
        if isinstance(self.parts, tuple) and length == sum(self.parts):
            return x.split(list(self.parts), self.dim)
        raise InvalidArgument(
            f"the tensor must be cut along dimension {self.dim} into the parts {self.parts}",
            got=f"a tensor of shape {tuple(x.shape)}",
            remedy="Give a count that divides that dimension, or sizes that sum to it.",
        )
