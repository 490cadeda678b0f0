"""Many independent estimates at once, each at a point of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.errors import InvalidArgument
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._objective import Objective, batched, evaluate, known_kind
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource
from steepest.estimators._space import Space

__all__ = ["called_one_by_one", "evaluations_of", "gradients", "values_at"]

_AT_ONCE = 1 << 22
"""Numbers of samples that are in memory at once."""


def gradients(source: GradientSource, objective: Objective, points: Tensor, generator: Generator) -> Tensor:
    """Return one gradient for each of the points [runs, *shape], with samples of its own.

    A call costs some fifteen operations on small tensors, whose overhead is most of its time. The sources of this
    package are therefore called once for many points; others, and these where f cannot be mapped, once for each.

    Raises:
        InvalidArgument: As the source does.
        EvaluationFailed: If f raises an error.
    """
    together = _together(source)
    if together is not None:
        state, found = generator.get_state(), list[Tensor]()
        each = evaluations_of(source, points[0]) * points[0].numel()
        try:
            for chunk in points.split(max(1, _AT_ONCE // each)):
                found.append(together(source, objective, chunk, generator))
            return torch.cat(found)
        except Exception:  # one by one it may work, or says what is wrong
            generator.set_state(state)
    return torch.stack([_gradient(source, objective, point, generator) for point in points])


def evaluations_of(source: Any, point: Tensor) -> int:
    """Return how many evaluations one call of a source spends.

    Raises:
        InvalidArgument: If the source has no method that says so.
    """
    counted = getattr(source, "evaluations", None)
    if not callable(counted):
        raise InvalidArgument(
            "sources must say what a call costs, by a method evaluations(x) -> int",
            got=source,
            remedy="Add the method, or use a source of this package.",
        )
    found: Any = counted(point)
    return int(found)


def values_at(objective: Objective, points: Tensor) -> Tensor:
    """Return the values [n] of f at points [n, *shape]."""
    with torch.no_grad():
        return evaluate(objective, Space(points[0]), points.reshape(len(points), -1))


def called_one_by_one(objective: Objective, point: Tensor) -> bool:
    """Return whether f is called for each point alone, so that many thousand points take long."""
    values_at(objective, torch.stack([point, point]))  # after which it is known how f is to be called
    return known_kind(objective) == "looped"


def _together(source: Any) -> Callable[..., Tensor] | None:
    """Return how a source is called for many points; None for one that may have a state of its own."""
    if type(source) in (ScoreFunction, FiniteDifference):
        return _mapped
    return _summed if type(source) in (Pathwise, Backprop) else None


def _mapped(source: GradientSource, objective: Objective, points: Tensor, generator: Generator) -> Tensor:
    return torch.vmap(lambda point: _gradient(source, objective, point, generator), randomness="different")(points)


def _summed(source: GradientSource, objective: Objective, points: Tensor, generator: Generator) -> Tensor:
    """Return the gradient of the sum of f over all points: each point's own part of it is its own gradient."""
    space = Space(points[0])

    @batched
    def total(stacked: Tensor) -> Tensor:
        rows = stacked.reshape(-1, space.size)
        values = evaluate(objective, space, rows, differentiable=True)
        return values.view(len(stacked), len(points)).sum(1)

    estimate = source(total, points, generator)
    if estimate.non_finite:  # which one it is has been lost in the sum
        raise ArithmeticError
    return _tensor(estimate.gradient)


def _gradient(source: GradientSource, objective: Objective, point: Tensor, generator: Generator) -> Tensor:
    return _tensor(source(objective, point, generator).gradient)


def _tensor(gradient: Any) -> Tensor:
    return gradient
