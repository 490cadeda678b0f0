"""Which estimator suits an objective, by measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Generator

from steepest import _check
from steepest.errors import InvalidArgument
from steepest.estimators._choosing.choice import Choice
from steepest.estimators._choosing.trial import Trial
from steepest.estimators._estimate import Point
from steepest.estimators._objective import Objective
from steepest.estimators._source import GradientSource
from steepest.estimators._space import Space

__all__ = ["choose"]


def choose(
    objective: Objective,
    x: Point,
    budget: int,
    generator: Generator | None = None,
    *,
    sigma: float | None = None,
    samples: int = 50,
    candidates: Sequence[GradientSource] | None = None,
) -> Choice:
    """Return the estimator with the least error per estimate of `samples` evaluations, by measurement at x.

    Without `sigma`, f itself is differentiated if it has a derivative that is not zero everywhere: by backpropagation
    if autograd can, else by differences. If it has none, as a quantised one, sigma is the least of a few scales at
    which most pairs x +- sigma e have different values, and not always the same two; where f is noisy, values that
    differ by more than that.

    For sigma > 0 all candidates estimate grad F(x), F(x) = E f(x + sigma e), e ~ N(0, I). Each is called repeatedly,
    with about the same evaluations per call, and those of the least spread again. The error of one is the sum of its
    variance and of its squared bias against the score functions, which are always unbiased. Pathwise gradients and
    differences are no candidates where f jumps.

    Args:
        objective: f, as estimators take it.
        x: The point, near which the estimator is to be used.
        budget: The most evaluations of f, >= 1. f is not called beyond it, not even by candidates of your own.
        generator: From which all random numbers come, on the device of x; None for one with a fixed seed.
        sigma: The scale of the perturbation, >= 0, in the units of x.
        samples: Evaluations of one estimate, >= 4.
        candidates: Gradient sources for this sigma; None for those of this package.

    Returns:
        The choice. `decided` is False, and the reason says so, where the budget is too small to tell, or f constant as
        far as it was seen. Where it is too small to look for jumps, it is a score function.

    Raises:
        InvalidArgument: If an argument is outside its range.
        EvaluationFailed: If f raises an error.

    >>> import torch
    >>> def f(x):
    ...     return torch.floor((x - 1).square().sum(-1))
    >>> choice = choose(f, torch.zeros(2), budget=20_000, sigma=0.5)
    >>> type(choice.estimator).__name__, choice.evaluations <= 20_000
    ('ScoreFunction', True)
    """
    _check.function("objective", objective)
    space = Space(x)
    budget = _check.at_least("budget", budget, 1)
    samples = _check.at_least("samples", samples, 4)
    if sigma is not None:
        sigma = _check.in_range("sigma", sigma, "[0, inf)")
    if generator is None:
        generator = Generator(space.device).manual_seed(0)
    _check.generator("generator", generator)
    return Trial(objective, x, space, budget, generator, samples, _sources(candidates)).choice(sigma)


def _sources(candidates: Any) -> list[GradientSource]:
    if candidates is None:
        return []
    if not isinstance(candidates, (list, tuple)) or not candidates:
        raise InvalidArgument(
            "candidates must be a list of gradient sources", got=candidates, remedy="Try [ScoreFunction(0.1, 50)]."
        )
    for each in cast("list[Any]", candidates):
        if not callable(each) or isinstance(each, type):
            raise InvalidArgument(
                "candidates must be gradient sources: source(objective, x, generator) -> Estimate",
                got=each,
                remedy="Try [ScoreFunction(0.1, 50)].",
            )
    return list(cast("list[GradientSource]", candidates))
