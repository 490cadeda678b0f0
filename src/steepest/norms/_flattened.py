"""A convolution's kernel as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from steepest._shapes import Float
from steepest.norms._matrix import check_matrix
from steepest.norms._norm import Norm, check_norm
from steepest.norms._points import check_list

__all__ = ["Flattened"]


@dataclass(frozen=True)
class Flattened(Norm):
    """The matrix norm of a kernel out x in x k x k, read as the matrix out x (in k k).

    Args:
        norm: The norm of the matrix.

    Raises:
        InvalidArgument: If it is not the norm of a tensor; when called, if the kernel has fewer than two dimensions.

    >>> import torch
    >>> from steepest.norms import Spectral
    >>> Flattened(Spectral()).duality_map(torch.ones(4, 3, 2, 2)).shape
    torch.Size([4, 3, 2, 2])
    """

    norm: Norm

    def __post_init__(self) -> None:
        check_norm(self.norm)

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the norm of the flattened kernel."""
        return self.norm(_matrix(x))

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the dual norm of the flattened kernel."""
        return self.norm.dual_norm(_matrix(g))

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the duality map of the flattened kernel, in the kernel's shape."""
        return self.norm.duality_map(_matrix(g)).view(g.shape)

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return the duality maps of the flattened kernels, in the kernels' shapes."""
        check_list(gs)
        maps = self.norm.duality_maps([_matrix(g) for g in gs])
        return [direction.view(g.shape) for direction, g in zip(maps, gs, strict=True)]

    def duality_pair(self, g: Float[Tensor, "*shape"]) -> tuple[Tensor, Float[Tensor, ""]]:
        """Return the pair of the flattened kernel, the map in the kernel's shape."""
        direction, dual = self.norm.duality_pair(_matrix(g))
        return direction.view(g.shape), dual

    def penalized_step(self, g: Float[Tensor, "*shape"], alpha: float | Tensor) -> Float[Tensor, "*shape"]:
        """Return the step of the flattened kernel, in the kernel's shape."""
        return self.norm.penalized_step(_matrix(g), alpha).view(g.shape)

    def exactly(self) -> Self:
        """Return the same with nothing approximated in norm."""
        return replace(self, norm=self.norm.exactly())


def _matrix(kernel: Tensor) -> Tensor:
    check_matrix(kernel, "Flattened")
    return kernel.flatten(1)
