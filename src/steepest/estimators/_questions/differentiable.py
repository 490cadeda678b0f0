"""Which sources an objective allows: those that backpropagate need values with autograd's graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from steepest._check import instance
from steepest.errors import EvaluationFailed, InvalidArgument
from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._questions.ascent import named_sources
from steepest.estimators._source import needs_autograd
from steepest.estimators._space import Space

__all__ = ["allowed", "names"]


def allowed(
    objective: Objective,
    point: Tensor,
    given: Any,
    usual: dict[str, Any],
    made: Callable[[Any], Any] = lambda each: each,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the sources by name that are asked, and the names of the usual ones that the objective does not allow.

    Args:
        objective: f.
        point: A point.
        given: The sources of a user by name, or functions that make them; None for the usual ones.
        usual: The usual ones.
        made: Makes a source of one of these.

    Raises:
        InvalidArgument: If the user's are no such sources, or one of them is not allowed.
        EvaluationFailed: If f raises an error.
    """
    sources = usual if given is None else named_sources(given)
    differentiating = tuple(name for name, each in sources.items() if needs_autograd(made(each)))
    if not differentiating or _has_graph(objective, point):
        return sources, ()
    if given is not None:
        raise InvalidArgument(
            "sources must not backpropagate where the objective has no gradient by autograd",
            got=differentiating[0],
            remedy="Leave it out, or ask about ScoreFunction or FiniteDifference.",
        )
    return {name: each for name, each in sources.items() if name not in differentiating}, differentiating


def names(name: str, values: Any) -> tuple[str, ...]:
    """Return a list of names as a tuple.

    Raises:
        InvalidArgument: If it is none.
    """
    found: Any = instance(name, values, (list, tuple), "a list of names")
    return tuple(instance(f"each of {name}", each, str, "a string") for each in found)


def _has_graph(objective: Objective, point: Tensor) -> bool:
    space = Space(point)
    rows = space.flat.expand(2, -1).clone()
    evaluate(objective, space, rows)  # an error that has nothing to do with autograd is raised here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a tensor that requires a gradient and becomes a number
        try:
            return evaluate(objective, space, rows.requires_grad_(), differentiable=True).requires_grad
        except EvaluationFailed:  # as .numpy() refuses a tensor that requires a gradient
            return False
