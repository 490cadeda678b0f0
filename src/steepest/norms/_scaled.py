"""A norm times a positive number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from steepest._check import in_range
from steepest._shapes import Float
from steepest.norms._norm import Norm, check_norm

__all__ = ["Scaled"]


@dataclass(frozen=True)
class Scaled(Norm):
    """||x|| = by * norm(x); the dual norm is norm_*(g) / by and the duality map norm's map / by.

    Args:
        norm: The norm to scale.
        by: A number above 0, whose square and its inverse are finite.

    Raises:
        InvalidArgument: If norm is not the norm of a tensor, or `by` is not in [1e-150, 1e150].

    >>> import torch
    >>> from steepest.norms import LInf
    >>> Scaled(LInf(), by=0.5).duality_map(torch.tensor([3.0, -4.0]))
    tensor([ 2., -2.])
    """

    norm: Norm
    by: float

    def __post_init__(self) -> None:
        check_norm(self.norm)
        # Steps divide by its square.
        object.__setattr__(self, "by", in_range("by", self.by, "[1e-150, 1e150]"))

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return by * norm(x)."""
        return self.norm(x) * self.by

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return norm_*(g) / by."""
        return self.norm.dual_norm(g) / self.by

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return norm's duality map / by."""
        return self.norm.duality_map(g).div_(self.by)

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return norm's duality maps / by."""
        return [direction.div_(self.by) for direction in self.norm.duality_maps(gs)]

    def duality_pair(self, g: Float[Tensor, "*shape"]) -> tuple[Tensor, Float[Tensor, ""]]:
        """Return norm's pair / by."""
        direction, dual = self.norm.duality_pair(g)
        return direction.div_(self.by), dual / self.by

    def penalized_step(self, g: Float[Tensor, "*shape"], alpha: float | Tensor) -> Float[Tensor, "*shape"]:
        """Return norm's step with alpha / by^2."""
        return self.norm.penalized_step(g, alpha / self.by / self.by)

    @property
    def map_is_entrywise(self) -> bool:
        """Whether norm's duality map is entrywise."""
        return self.norm.map_is_entrywise

    @property
    def step_factor(self) -> float | None:
        """Norm's factor / by^2."""
        factor = self.norm.step_factor
        return None if factor is None else factor / self.by / self.by

    def exactly(self) -> Self:
        """Return the same with nothing approximated in norm."""
        return replace(self, norm=self.norm.exactly())
