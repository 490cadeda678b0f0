"""What a gradient source returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Estimate", "Point"]

Point: TypeAlias = Tensor | Mapping[str, Tensor]
"""A point of an objective: a tensor of any shape, or tensors by name, such as the parameters of a module."""


class Estimate:
    """The gradient of an objective at a point, with what is known about its error and what it cost.

    All but `value`, `gradient` and `evaluations` is computed when it is read.

    Args:
        value: The objective that is differentiated, a scalar: f(x), or the smoothed E f(x + sigma e).
        gradient: Its gradient, in the structure of x.
        standard_error: The standard error of every entry of the gradient, or a function that computes it; None where
            nothing is known about it, which reads as nan.
        evaluations: The number of points at which f was evaluated.
        values: The values of f at these points, from which `non_finite` and `constant` are found; None if unknown.

    Attributes:
        value: A scalar tensor.
        gradient: A tensor, or tensors by name.
        evaluations: A whole number.

    >>> estimate = Estimate(torch.tensor(1.0), torch.tensor([2.0, 0.0]), evaluations=1)
    >>> estimate.standard_error
    tensor([nan, nan])
    """

    def __init__(
        self,
        value: Tensor,
        gradient: Point,
        standard_error: Point | Callable[[], Point] | None = None,
        evaluations: int = 1,
        values: Tensor | None = None,
    ) -> None:
        self.value, self.gradient, self.evaluations = value, gradient, evaluations
        self._standard_error, self._values = standard_error, values

    @cached_property
    def standard_error(self) -> Point:
        """The standard error of every entry of the gradient, in its structure.

        It measures the spread of random samples alone: zero for a method without any, and nan where one sample (of
        antithetic ones: one pair) was drawn. A bias, such as that of a finite difference, is not part of it.
        """
        found = self._standard_error
        if found is None:
            gradient = self.gradient
            if isinstance(gradient, Tensor):
                return torch.full_like(gradient, torch.nan)
            return {name: torch.full_like(each, torch.nan) for name, each in gradient.items()}
        return found() if callable(found) else found

    @cached_property
    def non_finite(self) -> int:
        """How many values of f were NaN or infinite; each was treated as the worst finite one."""
        return 0 if self._values is None else int((~self._values.isfinite()).sum())

    @cached_property
    def constant(self) -> bool:
        """Whether f had the same finite value at several points, so that nothing is known about its gradient."""
        values = self._values
        return values is not None and len(values) > 1 and bool((values == values[0]).all())

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences about values that are not finite, and about an objective that is constant."""
        found: list[str] = []
        if self.non_finite:
            assert self._values is not None
            found.append(
                f"{self.non_finite} of {len(self._values)} values of the objective were NaN or infinite; each was "
                "treated as the worst finite one."
            )
        if self.constant:
            found.append("The objective had the same value at all points: it is constant there.")
        return tuple(found)

    def __repr__(self) -> str:
        return f"Estimate(value={self.value!r}, gradient={self.gradient!r}, evaluations={self.evaluations})"
