"""Norms of a tensor's entries, whatever its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.norms._norm import Norm
from steepest.norms._points import check_list, check_tensor
from steepest.norms._scale import largest_entry

__all__ = ["L1", "L2", "LInf"]


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
        check_tensor(x)
        scale = largest_entry(x)
        return torch.linalg.vector_norm(x / scale) * scale

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sqrt(sum g_i^2)."""
        return self(g)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return g / ||g||, and 0 at 0."""
        check_tensor(g)
        direction = g / largest_entry(g)
        norm = torch.linalg.vector_norm(direction)
        return direction.div_(torch.where(norm > 0, norm, 1))

    def penalized_step(self, g: Float[Tensor, "*shape"], alpha: float | Tensor) -> Float[Tensor, "*shape"]:
        """Return -(alpha/2) g."""
        check_tensor(g)
        return g * (-alpha / 2)

    @property
    def step_factor(self) -> float:
        """1: the step is -(alpha/2) g."""
        return 1.0


@dataclass(frozen=True)
class LInf(Norm):
    """The largest entry: ||x|| = max |x_i|; the dual is the L1 norm; d(g) = sign(g).

    >>> g = torch.tensor([3.0, -4.0])
    >>> LInf()(g), LInf().dual_norm(g), LInf().duality_map(g)
    (tensor(4.), tensor(7.), tensor([ 1., -1.]))
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return max |x_i|."""
        check_tensor(x)
        return torch.linalg.vector_norm(x, ord=float("inf")) if x.numel() else x.new_zeros(())

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sum |g_i|."""
        check_tensor(g)
        return torch.linalg.vector_norm(g, ord=1)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sign(g)."""
        check_tensor(g)
        return torch.sign(g)

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return sign(g) of each, in one call."""
        check_list(gs)
        for g in gs:
            check_tensor(g)
        return list(torch._foreach_sign(list(gs))) if gs else []

    @property
    def map_is_entrywise(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class L1(Norm):
    """The sum of the entries' sizes: ||x|| = sum |x_i|; the dual is LInf; d(g) = sign(g_i) e_i at the largest |g_i|.

    A step is greedy coordinate descent: one entry moves, the first of the largest.

    >>> g = torch.tensor([3.0, -4.0])
    >>> L1()(g), L1().dual_norm(g), L1().duality_map(g)
    (tensor(7.), tensor(4.), tensor([ 0., -1.]))
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sum |x_i|."""
        return LInf().dual_norm(x)

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return max |g_i|."""
        return LInf()(g)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sign of the largest entry at its place, and 0 elsewhere."""
        check_tensor(g)
        if not g.numel():
            return torch.zeros_like(g)
        flat = g.flatten()
        at = flat.abs().argmax().view(1)
        return torch.zeros_like(flat).scatter(0, at, flat.gather(0, at).sign()).view(g.shape)
