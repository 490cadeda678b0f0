"""The interfaces of norms and of distances, which penalize a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Self

import torch
from torch import Tensor
from typing_extensions import TypeVar

from steepest._check import instance
from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.norms._points import check_list, check_shapes, inner, like, times, widened

__all__ = ["Distance", "Norm"]

T = TypeVar("T", Tensor, dict[str, Tensor], default=Tensor)
"""The argument of a norm: a tensor, or a network's tensors by name."""


class Distance(ABC, Generic[T]):
    """The penalty d(u) of a step u in the penalized problem min <g, u> + d(u) / alpha.

    A subclass must implement d, the minimiser and its certificate. Subclasses are frozen and compare equal by value.
    """

    @abstractmethod
    def distance(self, u: T) -> Float[Tensor, ""]:
        """Return d(u)."""

    @abstractmethod
    def penalized_step(self, g: T, alpha: float | Tensor) -> T:
        """Return the minimiser, a new tensor; `steepest.norms.penalized_step` checks alpha first."""

    @abstractmethod
    def duality_gap(self, g: T, step: T, alpha: float) -> Float[Tensor, ""]:
        """Return the suboptimality of `step`, relative to the size of the minimum; all in float64."""

    def exactly(self) -> Self:
        """Return this distance with nothing approximated; itself where nothing is."""
        return self


class Norm(Distance[T]):
    """A norm, its dual norm and its duality map; no state, any floating dtype, any device.

    A subclass must implement three functions of a tensor, for which, with ||.|| the norm and ||.||_* its dual,

        ||g||_* = max { <g, d> : ||d|| <= 1 }        and        d(g) attains that maximum.

    So <g, d(g)> = ||g||_*, and ||d(g)|| = 1 unless g = 0, where d(g) = 0. Subclasses are frozen
    dataclasses: they compare equal by value and can be keys. As a distance a norm is its square.

    Source: Bernstein and Newhouse, "Old Optimizer, New Norm: An Anthology" (2024, arXiv:2409.20325), proposition 1.
    """

    @abstractmethod
    def __call__(self, x: T) -> Float[Tensor, ""]:
        """Return ||x|| as a tensor without dimensions."""

    @abstractmethod
    def dual_norm(self, g: T) -> Float[Tensor, ""]:
        """Return ||g||_* as a tensor without dimensions."""

    @abstractmethod
    def duality_map(self, g: T) -> T:
        """Return d(g), a new tensor of g's shape."""

    @property
    def takes_names(self) -> bool:
        """Whether the norm takes tensors by name, those of a network together."""
        return False

    @property
    def map_is_entrywise(self) -> bool:
        """Whether an entry of d(g) depends on that entry of g alone, so that pieces can be mapped one by one."""
        return False

    @property
    def step_factor(self) -> float | None:
        """The c with which the penalized step is -c (alpha/2) g, a multiple of the gradient; None where it is not."""
        return None

    def duality_maps(self, gs: Sequence[T]) -> list[T]:
        """Return d(g) of each tensor separately; a norm overrides this where many at once are faster."""
        check_list(gs)
        return [self.duality_map(g) for g in gs]

    def duality_pair(self, g: T) -> tuple[T, Float[Tensor, ""]]:
        """Return d(g), of norm 1, and ||g||_*; a norm overrides this where one helps to find the other."""
        return self.duality_map(g), self.dual_norm(g)

    def distance(self, u: T) -> Float[Tensor, ""]:
        """Return ||u||^2."""
        return self(u).square()

    def penalized_step(self, g: T, alpha: float | Tensor) -> T:
        """Return -(alpha/2) ||g||_* d(g)."""
        wide = widened(g)
        direction, size = self.duality_pair(wide)
        step = times(direction, size * (-alpha / 2))
        return step if wide is g else like(step, g)

    def duality_gap(self, g: T, step: T, alpha: float) -> Float[Tensor, ""]:
        """Return (<g, u> + ||u||^2/alpha + (alpha/4)||g||_*^2) / ((alpha/4)||g||_*^2)."""
        check_shapes(g, step)
        dual = self.dual_norm(g)
        return power_gap(self(step), dual, inner(g, step), dual * (alpha / 2), 2.0)


def check_norm(norm: Any) -> Any:
    """Return the norm of a tensor on which another is built, or raise InvalidArgument."""
    instance("norm", norm, Norm, "a norm", remedy="Try steepest.norms.Spectral().")
    if norm.takes_names:
        raise InvalidArgument("norm must be the norm of one tensor", got=norm, remedy="Build it on the blocks' norms.")
    return norm


def power_gap(size: Tensor, dual: Tensor, product: Tensor, length: Tensor, p: float) -> Float[Tensor, ""]:
    """Return the gap of min <g, u> + ||u||^p / (p a), whose minimiser has norm `length`, without cancellation.

    With s = ||u|| / length and 1/p + 1/q = 1 it is a sum of two nonnegative terms (by Young's and Hoelder's
    inequalities):

        q (s^p / p - s + 1/q)  +  q s (1 + <g, u> / (||u|| ||g||_*)).

    Args:
        size: ||u||.
        dual: ||g||_*.
        product: <g, u>.
        length: The norm of the minimiser.
        p: Above 1.
    """
    q, s = p / (p - 1), size / length
    young = (s - 1).square() if p == 2 else q * (s**p / p - s + 1 / q)
    cosine = product / torch.where(size > 0, size, 1) / dual
    gap = young.clamp_min(0) + q * s * (1 + cosine).clamp_min(0)
    # Compared with ==, so that a NaN is never certified.
    return torch.where(dual == 0, torch.where(size == 0, 0.0, torch.inf).to(gap.dtype), gap)
