"""The interface of all gradient sources."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Generator

from steepest import _check
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._objective import Objective

__all__ = ["GradientSource", "needs_autograd"]


class GradientSource(Protocol):
    """Estimates the gradient of an objective at a point.

    A source may have two more attributes. `needs_autograd` says whether it calls the backward pass; without the
    attribute it counts as one that does not. `evaluations(x)` returns how many evaluations one call spends.
    """

    def __call__(self, objective: Objective, x: Point, generator: Generator | None = None, /) -> Estimate:
        """Return the estimate.

        Args:
            objective: f(points [samples, *shape]) -> values [samples], or f(point) -> value.
            x: The point: a tensor, or tensors by name.
            generator: Where its random numbers come from; None for a source that draws none.
        """
        ...


def needs_autograd(source: Any) -> bool:
    """Return whether a source differentiates the objective by backpropagation.

    Raises:
        InvalidArgument: If it is no function.

    >>> from steepest.estimators import Backprop, ScoreFunction
    >>> needs_autograd(Backprop()), needs_autograd(ScoreFunction(sigma=0.1, samples=10))
    (True, False)
    """
    return bool(getattr(_check.function("source", source), "needs_autograd", False))
