"""Powers of a norm as distances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Self

from torch import Tensor

from steepest._check import instance
from steepest._shapes import Float
from steepest.norms._lp import check_exponent
from steepest.norms._norm import Distance, Norm, T, power_gap
from steepest.norms._points import check_shapes, inner, like, times, widened

__all__ = ["Power"]


@dataclass(frozen=True)
class Power(Distance[T], Generic[T]):
    """The distance ||u||^p / p.

    Its step is -t d(g) with t = (alpha ||g||_*)^(1/(p-1)); the minimum is -||g||_* t / q, 1/p + 1/q = 1. The larger p,
    the less the step depends on the size of the gradient: p = 2 is a penalized step with 2 alpha, p -> infinity a
    constrained one with radius 1.

    Args:
        norm: The norm.
        p: Finite and above 1.

    Raises:
        InvalidArgument: If norm is not a `Norm`, or p is not finite and above 1.

    >>> import torch
    >>> from steepest.norms import L2, penalized_step
    >>> penalized_step(Power(L2(), 3), torch.tensor([3.0, 4.0]), alpha=0.2)
    tensor([-0.6000, -0.8000])
    """

    norm: Norm[T]
    p: float

    def __post_init__(self) -> None:
        instance("norm", self.norm, Norm, "a norm", remedy="Try steepest.norms.L2().")
        remedy = "Use p = 2 for the usual penalty, or constrained_step for p = infinity."
        object.__setattr__(self, "p", check_exponent(self.p, remedy))

    def distance(self, u: T) -> Float[Tensor, ""]:
        """Return ||u||^p / p."""
        return self.norm(u) ** self.p / self.p

    def penalized_step(self, g: T, alpha: float | Tensor) -> T:
        """Return -(alpha ||g||_*)^(1/(p-1)) d(g)."""
        direction, dual = self.norm.duality_pair(widened(g))
        return like(times(direction, -((dual.double() * alpha) ** (1 / (self.p - 1)))), g)

    def duality_gap(self, g: T, step: T, alpha: float) -> Float[Tensor, ""]:
        """Return (<g, u> + d(u)/alpha - minimum) / |minimum|."""
        check_shapes(g, step)
        dual = self.norm.dual_norm(g)
        return power_gap(self.norm(step), dual, inner(g, step), (dual * alpha) ** (1 / (self.p - 1)), self.p)

    def exactly(self) -> Self:
        """Return the same with nothing approximated in norm."""
        return replace(self, norm=self.norm.exactly())
