"""Gradient ascent from a start, of which the questions are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from steepest import _check
from steepest._objectives import multimodal
from steepest._random import seeded
from steepest.errors import InvalidArgument
from steepest.estimators._objective import Objective
from steepest.estimators._questions.many import called_one_by_one, gradients, values_at
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource

__all__ = ["Ascent", "BySamples", "listed", "named_sources", "whole_numbers"]

BySamples = Mapping[str, Callable[[int], GradientSource]]
"""By name: a function from the number of samples to a source."""

_DRAWN = 2048
"""Perturbations in the mean that stands for a smoothing without a closed form."""

_FEW = 64
"""The same where f is called for each point alone."""


@dataclass(frozen=True)
class Ascent:
    """Gradient ascent on an objective, x <- x + step g, where g is what a source estimates at x.

    The defaults are a reference problem with 17 local maxima, of which a smoothing of .3 leaves one.

    Args:
        objective: f, in any way that a source takes it. To minimise f, pass -f. Where it has a method
            `smoothed(sigma)`, that is its smoothing E f(x + sigma e), e ~ N(0, I), in closed form. Else its value
            is the mean of f over 2,048 points, 64 where f is called for each alone: of a slow f, ask about few runs.
        start: A point, as numbers or a tensor; or a distribution of points, from which every run draws its own.
        sigma: The scale of the smoothing, > 0, in the units of x.
        step: The step size, > 0.
        steps: Steps of a run, >= 1.

    Raises:
        InvalidArgument: If an argument is outside its range.

    >>> from steepest.estimators import Backprop
    >>> paths = Ascent(lambda x: -x.square().sum(-1), start=(1.0, 2.0), steps=3).paths(Backprop(), runs=1)
    >>> paths.round(3).tolist()
    [[[1.0, 2.0], [0.8, 1.6], [0.64, 1.28], [0.512, 1.024]]]
    """

    objective: Objective = multimodal
    start: Any = (-0.3, 0.5)
    sigma: float = 0.3
    step: float = 0.1
    steps: int = 30

    def __post_init__(self) -> None:
        _check.function("objective", self.objective)
        if not isinstance(self.start, Distribution):
            _as_point(self.start)
        _check.in_range("sigma", self.sigma, "(0, inf)")
        _check.in_range("step", self.step, "(0, inf)")
        _check.at_least("steps", self.steps, 1)

    def paths(self, source: GradientSource, runs: int = 100, *, seed: int = 0) -> NDArray[np.float64]:
        """Return the points of several runs with different samples, [runs, steps + 1, d].

        Args:
            source: What estimates the gradient.
            runs: How many, >= 1.
            seed: Of all samples and starts.

        Raises:
            InvalidArgument: If an argument is outside its range, or the source finds f wrong.
            EvaluationFailed: If f raises an error.
        """
        _check.function("source", source)
        _check.at_least("runs", runs, 1, most=10**6)
        _check.at_least("seed", seed, 0, most=2**63 - 1)
        return self._from_starts(source, self._starts(runs, seed), self.step, seed).flatten(2).cpu().double().numpy()

    def _from_starts(self, source: GradientSource, starts: Tensor, step: float, seed: int) -> Tensor:
        """Return the points [runs, steps + 1, *shape] of runs from starts [runs, *shape]."""
        generator = torch.Generator(starts.device).manual_seed(seed)
        points = [starts]
        for _ in range(self.steps):
            points.append(points[-1] + step * gradients(source, self.objective, points[-1], generator))
        return torch.stack(points, 1)

    def _starts(self, runs: int, seed: int) -> Tensor:
        """Return the first points of runs, [runs, *shape]."""
        if not isinstance(self.start, Distribution):
            return _as_point(self.start).expand(runs, *_as_point(self.start).shape).clone()
        with seeded(seed):
            return self.start.sample((runs,))

    def _point(self) -> Tensor:
        """Return the start, where it is one point.

        Raises:
            InvalidArgument: If it is a distribution.
        """
        if isinstance(self.start, Distribution):
            raise InvalidArgument(
                "start must be one point, to tell how far an estimate there is from the gradient",
                got=self.start,
                remedy="Pass numbers, or a tensor.",
            )
        return _as_point(self.start)

    def _smoothed(self, points: Tensor) -> Tensor:
        """Return F(x) = E f(x + sigma e) at points [n, *shape], in closed form or as the mean over the same e."""
        closed = _closed(self.objective, self.sigma)
        if closed is not None:
            return values_at(closed, points)
        noise = self._noise(points[0])
        return torch.stack([values_at(self.objective, point + noise).mean() for point in points])

    def _noise(self, point: Tensor) -> Tensor:
        """Return the same perturbations at each call, [2048 or 64, *shape]."""
        generator = torch.Generator(point.device).manual_seed(0)
        drawn = _FEW if called_one_by_one(self.objective, point) else _DRAWN
        shape = drawn // 2, *point.shape
        noise = torch.randn(shape, generator=generator, device=point.device, dtype=point.dtype).mul_(self.sigma)
        return torch.cat((noise, -noise))

    def _gradient(self) -> Tensor:
        """Return the gradient of F at the start: of the closed form, or from 100,000 evaluations.

        It is exactly zero where f is constant, and no difference that rounding makes.
        """
        point, closed = self._point(), _closed(self.objective, self.sigma)
        if closed is not None:
            given = point.clone().requires_grad_()
            (found,) = torch.autograd.grad(closed(given[None]).sum(), given)
            return found
        values = values_at(self.objective, point + self._noise(point))
        if (values == values[0]).all():
            return torch.zeros_like(point)
        source = ScoreFunction(self.sigma, 2000, baseline="control-variate", worst="smallest")
        generator = torch.Generator(point.device).manual_seed(0)
        return gradients(source, self.objective, point.expand(50, *point.shape), generator).mean(0)


def listed(name: str, values: Any, interval: str) -> list[float]:
    """Return a list of numbers in an interval, in order.

    Raises:
        InvalidArgument: If it is none, or empty.
    """
    return sorted({_check.in_range(f"each of {name}", each, interval) for each in _some(name, values)})


def whole_numbers(name: str, values: Any) -> list[int]:
    """Return a list of whole numbers >= 1, in order.

    Raises:
        InvalidArgument: If it is none, or empty.
    """
    return sorted({_check.at_least(f"each of {name}", each, 1, most=10**6) for each in _some(name, values)})


def named_sources(values: Any) -> dict[str, Any]:
    """Return sources, or functions that make one, by name.

    Raises:
        InvalidArgument: If it is no such mapping, or empty.
    """
    found: Any = _check.instance("sources", values, Mapping, "a dict of sources by name")
    for name, each in found.items():
        _check.instance("a name in sources", name, str, "a string")
        _check.function(f"sources[{name!r}]", each)
    if not found:
        raise InvalidArgument("sources must not be empty", got="none", remedy="Leave it out for the usual ones.")
    return dict(found)


def _some(name: str, values: Any) -> list[Any]:
    found = list(_check.instance(name, values, (list, tuple, np.ndarray), "a list of numbers"))
    if not found:
        raise InvalidArgument(f"{name} must not be empty", got=values, remedy="Pass one number at least.")
    return [each.item() if isinstance(each, np.generic) else each for each in found]


def _as_point(start: Any) -> Tensor:
    if isinstance(start, Tensor):
        return _check.floating("start", start).detach()
    numbers = _check.instance("start", start, (list, tuple), "a point, or a distribution of points")
    if not numbers:
        raise InvalidArgument("start must have a coordinate", got=start, remedy="Try (-0.3, 0.5).")
    return torch.tensor([_check.finite("each of start", each) for each in numbers])


def _closed(objective: Any, sigma: float) -> Any:
    made = getattr(objective, "smoothed", None)
    return made(sigma) if callable(made) else None
