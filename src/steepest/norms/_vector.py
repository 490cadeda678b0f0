"""Norms of a tensor's entries, whatever its shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.norms._norm import Norm

__all__ = ["L2", "LInf"]


@dataclass(frozen=True)
class L2(Norm):
    """The Euclidean norm of the entries: ||x|| = sqrt(sum x_i^2), its own dual; d(g) = g / ||g||.

    >>> L2()(torch.tensor([3.0, 4.0]))
    tensor(5.)
    >>> L2().duality_map(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sqrt(sum x_i^2)."""
        scale = _largest_entry(x)
        return torch.linalg.vector_norm(x / scale) * scale

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sqrt(sum g_i^2)."""
        return self(g)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return g / ||g||, and 0 at 0."""
        direction = g / _largest_entry(g)
        norm = torch.linalg.vector_norm(direction)
        return direction.div_(torch.where(norm > 0, norm, 1))


def _largest_entry(x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return max |x_i|, or 1 where that is 0: divided by it, no square leaves the range of the dtype."""
    if not x.numel():
        return x.new_ones(())
    largest = torch.stack(torch.aminmax(x)).abs().amax()
    return torch.where(largest > 0, largest, 1)


@dataclass(frozen=True)
class LInf(Norm):
    """The largest entry: ||x|| = max |x_i|; the dual is the L1 norm; d(g) = sign(g).

    >>> g = torch.tensor([3.0, -4.0])
    >>> LInf()(g), LInf().dual_norm(g), LInf().duality_map(g)
    (tensor(4.), tensor(7.), tensor([ 1., -1.]))
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return max |x_i|."""
        return torch.linalg.vector_norm(x, ord=float("inf"))

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sum |g_i|."""
        return torch.linalg.vector_norm(g, ord=1)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sign(g)."""
        return torch.sign(g)
