"""The seam of this room: what every norm knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from steepest._shapes import Float

__all__ = ["Norm"]


class Norm(ABC):
    """A norm, its dual norm and its duality map; no state, any floating dtype, any device.

    A subclass owes three functions of a tensor, for which, with ||.|| the norm and ||.||_* its dual,

        ||g||_* = max { <g, d> : ||d|| <= 1 }        and        d(g) attains that maximum.

    So <g, d(g)> = ||g||_*, and ||d(g)|| = 1 unless g = 0, where d(g) = 0. Subclasses are frozen
    dataclasses: they compare equal by value and can be keys.

    Source: Bernstein and Newhouse, "Old Optimizer, New Norm: An Anthology" (2024), proposition 1.
    """

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return ||x|| as a tensor without dimensions."""

    @abstractmethod
    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return ||g||_* as a tensor without dimensions."""

    @abstractmethod
    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return d(g), a new tensor of g's shape."""

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return d(g) of each tensor by itself; a norm overrides this where many at once are faster."""
        return [self.duality_map(g) for g in gs]
