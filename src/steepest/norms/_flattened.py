"""A convolution's kernel as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from steepest._shapes import Float
from steepest.norms._norm import Norm

__all__ = ["Flattened"]


@dataclass(frozen=True)
class Flattened(Norm):
    """The matrix norm of a kernel out x in x k x k, read as the matrix out x (in k k).

    >>> import torch
    >>> from steepest.norms import Spectral
    >>> Flattened(Spectral()).duality_map(torch.ones(4, 3, 2, 2)).shape
    torch.Size([4, 3, 2, 2])
    """

    norm: Norm

    def __call__(self, x: Float[Tensor, "out in *kernel"]) -> Float[Tensor, ""]:
        """Return the norm of the flattened kernel."""
        return self.norm(x.flatten(1))

    def dual_norm(self, g: Float[Tensor, "out in *kernel"]) -> Float[Tensor, ""]:
        """Return the dual norm of the flattened kernel."""
        return self.norm.dual_norm(g.flatten(1))

    def duality_map(self, g: Float[Tensor, "out in *kernel"]) -> Float[Tensor, "out in *kernel"]:
        """Return the duality map of the flattened kernel, in the kernel's shape."""
        return self.norm.duality_map(g.flatten(1)).view_as(g)

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return the duality maps of the flattened kernels, in the kernels' shapes."""
        maps = self.norm.duality_maps([g.flatten(1) for g in gs])
        return [direction.view_as(g) for direction, g in zip(maps, gs, strict=True)]
