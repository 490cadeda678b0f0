"""Which estimator suits an objective, by measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor

from steepest import _check
from steepest.errors import InvalidArgument
from steepest.estimators._auditing.reference import jumps, slopes
from steepest.estimators._auditing.repetitions import flat
from steepest.estimators._auditing.watched import Watched
from steepest.estimators._estimate import Point
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource
from steepest.estimators._space import Space

__all__ = ["Choice", "choose"]

FEWEST = 8
"""Estimates from which a variance can be told at all."""

MOST = 2000
"""Estimates of a candidate after which its variance is known to a few percent."""

LOOKED = 32
"""Pairs of points with which jumps are looked for."""

_SHORT = "The budget was too small to look for jumps."

RESERVE = 8
"""Evaluations with which it is found out how the objective wants to be called."""


@dataclass(frozen=True)
class Choice:
    """Estimators by their measured error.

    Attributes:
        estimator: The one to use.
        reason: Why, and what is not known, in sentences.
        decided: Whether the measurement tells it from all others, but for those of about the same error.
        sigma: The scale of the smoothed objective that all of them differentiate; 0 for f itself.
        candidates: The estimators that were measured, the best first.
        errors: Of each, the square root of bias^2 + variance over the length of the gradient, for one estimate.
        uncertainty: The relative standard error of each of these.
        evaluations: What was spent.
    """

    estimator: GradientSource
    reason: str
    decided: bool
    sigma: float
    candidates: tuple[GradientSource, ...]
    errors: tuple[float, ...]
    uncertainty: tuple[float, ...]
    evaluations: int

    def __str__(self) -> str:
        return f"{self.estimator!r}. {self.reason}"


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
    which most pairs x +- sigma e have different values, and not always the same two.

    For sigma > 0 all candidates estimate grad F(x), F(x) = E f(x + sigma e), e ~ N(0, I). Each is called repeatedly,
    with about the same evaluations per call, and those of the least spread again. The error of one is the sum of its
    variance and of its squared bias against the score functions, which are always unbiased. Pathwise gradients and
    differences are no candidates where f jumps.

    Args:
        objective: f, as estimators take it.
        x: The point, near which the estimator is to be used.
        budget: The most evaluations of f, >= 1.
        generator: From which all random numbers come, on the device of x; None for one with a fixed seed.
        sigma: The scale of the perturbation, >= 0, in the units of x.
        samples: Evaluations of one estimate, >= 4.
        candidates: Gradient sources for this sigma; None for those of this package.

    Returns:
        The choice. `decided` is False, and the reason says so, where the budget is too small to tell.

    Raises:
        InvalidArgument: If an argument is outside its range.
        EvaluationFailed: If f raises an error.

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
    given = _sources(candidates)
    trial = _Trial(objective, x, space, budget, generator, samples)
    if budget < RESERVE + 8:
        return trial.unknown(0.1 if sigma is None else sigma)
    trial.begin()
    derivative = trial.derivative(sigma)
    if not given and not sigma and derivative is not None:
        return derivative
    scale = trial.visible_scale() if sigma is None or (sigma == 0 and not given) else sigma
    return trial.race(given or trial.usual(scale), scale)


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


@dataclass
class _Measured:
    """Estimates of a candidate."""

    source: GradientSource
    gradients: list[Tensor]

    @property
    def mean(self) -> Tensor:
        return torch.stack(self.gradients).mean(0)

    @property
    def variance(self) -> float:
        """The variance of one estimate, summed over entries."""
        return float(torch.stack(self.gradients).var(0).sum())

    @property
    def uncertainty(self) -> float:
        """The relative standard error of the variance."""
        squares = (torch.stack(self.gradients) - self.mean).square().sum(1)
        mean = float(squares.mean())
        return float(squares.std()) / mean / math.sqrt(len(squares)) if mean else 0.0


class _Trial:
    """The measurement, within its budget."""

    def __init__(
        self, objective: Objective, x: Point, space: Space, budget: int, generator: Generator, samples: int
    ) -> None:
        self._objective, self._x, self._space = objective, x, space
        self._budget, self._generator, self._samples = budget, generator, samples
        self._watched = Watched(objective, space)
        self._spent, self._graph, self._jumps, self._looked = 0, False, False, False

    @property
    def _left(self) -> int:
        return self._budget - self._spent - self._watched.count

    @property
    def _used(self) -> int:
        return self._budget - self._left

    def begin(self) -> None:
        """Evaluate f at x alone, from which it is known how it is called."""
        evaluate(self._objective, self._space, self._space.flat[None])
        self._spent += RESERVE

    def _scale(self) -> float:
        return max(1.0, float(self._space.flat.double().square().mean().sqrt()))

    def _rows(self, count: int, distance: float) -> Tensor:
        flat = self._space.flat
        noise = torch.randn((count, self._space.size), generator=self._generator, dtype=flat.dtype, device=flat.device)
        return flat + distance * noise

    def derivative(self, sigma: float | None) -> Choice | None:
        """Find out whether f has a derivative that is not zero; return the choice for f itself, if it is the target."""
        space = self._space
        count = max(1, min(16, self._left // 8))
        near = sigma or 0.1 * self._scale()
        found = slopes(self._objective, space, torch.cat([space.flat[None], self._rows(count - 1, near)]))
        self._spent += count
        self._graph = found is not None and bool(found[1].any())
        few = min(128, self._left // 16)
        if few >= FEWEST:
            self._jumps = jumps(self._objective, space, self._rows(few, near), near)
            self._spent += 4 * few
        self._looked = few >= LOOKED
        if sigma or self._jumps:
            return None
        doubt = "" if self._looked else f" {_SHORT}"
        if self._graph:
            reason = (
                "The objective has a derivative that is not zero, and no jumps were seen near x: backpropagation "
                "has no variance, and takes one evaluation and a backward pass. It sees f at x alone; pass sigma > 0 "
                "for the gradient of a smoothed f."
            )
            return Choice(Backprop(), reason + doubt, self._looked, 0.0, (Backprop(),), (0.0,), (0.0,), self._used)
        if 2 * space.size <= self._samples:
            source = FiniteDifference()
            reason = (
                "No jumps were seen near x, and autograd does not know a derivative: central differences have no "
                f"variance, and {2 * space.size} evaluations per estimate are affordable."
            )
            return Choice(source, reason + doubt, self._looked, 0.0, (source,), (0.0,), (0.0,), self._used)
        directions = FiniteDifference(samples=self._samples // 2, directions="random")
        error = math.sqrt((space.size + 1) / (self._samples // 2))
        reason = (
            f"No jumps were seen near x, and autograd does not know a derivative. Differences along all {space.size} "
            f"coordinates would take {2 * space.size} evaluations; along random directions, {self._samples} give an "
            f"error of about {error:.2g} times the gradient."
        )
        return Choice(directions, reason + doubt, self._looked, 0.0, (directions,), (error,), (0.0,), self._used)

    def visible_scale(self) -> float:
        """Return the least of a few scales at which most pairs of points have different values, of three at least.

        Where f jumps at x itself, most pairs differ at every scale, by the same two values.
        """
        scales = [factor * self._scale() for factor in (0.01, 0.03, 0.1, 0.3, 1.0)]
        with_two_values: list[float] = []
        for scale in scales:
            if self._left < 32 + len(scales):
                break
            step = self._rows(16, scale) - self._space.flat
            values = evaluate(
                self._objective, self._space, torch.cat([self._space.flat + step, self._space.flat - step])
            )
            self._spent += 32
            if float((values[:16] != values[16:]).double().mean()) >= 0.5:
                if len(values.unique()) > 2:
                    return scale
                with_two_values.append(scale)
        return (with_two_values or scales[-2:])[0]

    def usual(self, sigma: float) -> list[GradientSource]:
        """Return the candidates of this package for a scale."""
        even = self._samples - self._samples % 2
        size = self._space.size
        found: list[GradientSource] = [
            ScoreFunction(sigma, even),
            ScoreFunction(sigma, self._samples, antithetic=False),
        ]
        if even >= 8:
            found.append(ScoreFunction(sigma, even, baseline="control-variate"))
        if self._jumps or not self._looked:
            return found
        found.append(FiniteDifference(samples=even // 2, sigma=sigma, directions="random"))
        if 2 * size <= self._samples:
            found.append(FiniteDifference(samples=self._samples // (2 * size), sigma=sigma))
        if self._graph:
            found += [Pathwise(sigma, self._samples), Pathwise(sigma, even, antithetic=True)]
        return found

    def race(self, sources: list[GradientSource], sigma: float) -> Choice:
        """Measure all candidates with half of the budget, and the best three with the rest."""
        measured = [_Measured(source, []) for source in sources]
        share = self._left // 2 // len(measured)
        for each in measured:
            self._measure(each, share)
        known = [each for each in measured if len(each.gradients) >= FEWEST]
        if not known:
            return self.unknown(sigma)
        known.sort(key=lambda each: each.variance)
        for index, each in enumerate(known[:3]):
            self._measure(each, self._left // (len(known[:3]) - index))
        return self._result(known, len(measured) - len(known), sigma)

    def _measure(self, measured: _Measured, share: int) -> None:
        """Call a candidate as often as its share of evaluations allows."""
        spent = 0
        cost = 0
        counted: Any = getattr(measured.source, "evaluations", None)
        if callable(counted):
            cost = int(cast("Any", counted)(self._x))
        objective = self._watched.objective
        while (
            len(measured.gradients) < MOST
            and spent + cost <= share
            and (cost or spent < share // 2)
            and self._left >= max(cost, 1)
        ):
            before = self._watched.count
            estimate = measured.source(objective, self._x, self._generator)
            measured.gradients.append(flat(estimate.gradient))
            cost = max(1, self._watched.count - before)
            spent += cost

    def _result(self, known: list[_Measured], missing: int, sigma: float) -> Choice:
        score = [each for each in known if isinstance(each.source, ScoreFunction)]
        target = min(score or known, key=lambda each: each.variance / len(each.gradients))
        length = float(target.mean.norm())
        biased = {id(each) for each in known if each is not target and _differs(each, target)}

        def error(each: _Measured) -> float:
            bias = float((each.mean - target.mean).square().sum()) if id(each) in biased else 0.0
            return math.sqrt(bias + each.variance)

        known.sort(key=error)
        errors = [error(each) for each in known]
        best = known[0]
        doubt = [each.uncertainty / 2 for each in known]
        # Another one might be better by more than a factor 1.5, as far as is known.
        open_ones = [
            each.source
            for each, size, unsure in zip(known[1:], errors[1:], doubt[1:], strict=True)
            if size * (1 - min(0.99, 2 * unsure)) * 1.5 < errors[0] * (1 + 2 * doubt[0])
        ]
        noise = math.sqrt(target.variance / len(target.gradients))
        reason = (
            f"One estimate has an error of {errors[0] / length:.2g} times the gradient"
            if length > 2 * noise
            else ("The gradient is too small beside the noise for relative errors")
        )
        if len(known) > 1:
            times = f"{errors[1] / errors[0]:.2g} times that" if errors[0] else f"{errors[1] / (length or 1.0):.2g}"
            reason += f"; the next best candidate, {type(known[1].source).__name__}, has {times}"
        reason += "."
        if self._jumps:
            reason += (
                " The objective has jumps near x, across which its derivative does not see: values alone are used."
            )
        if biased:
            names = ", ".join(sorted({type(each.source).__name__ for each in known if id(each) in biased}))
            reason += f" Biased against the score function: {names}."
        if missing:
            reason += f" {missing} candidates were not measured: the budget was too small."
        if open_ones:
            reason += " The measurement is too short to rule out that another one is better: pass a larger budget."
        scale = length or 1.0
        return Choice(
            best.source,
            reason,
            not open_ones and not missing and self._looked,
            sigma,
            tuple(each.source for each in known),
            tuple(each / scale for each in errors),
            tuple(doubt),
            self._used,
        )

    def unknown(self, sigma: float) -> Choice:
        """Return what is said where the budget is too small to measure anything."""
        even = self._samples - self._samples % 2
        source = ScoreFunction(sigma or 0.1, even)
        reason = (
            f"A budget of {self._budget} evaluations is too small to measure anything. A score function with "
            "antithetic pairs is unbiased whatever the objective is."
        )
        return Choice(source, reason, False, source.sigma, (), (), (), self._used)


def _differs(each: _Measured, target: _Measured) -> bool:
    """Return whether two means differ by more than their noise."""
    difference = float((each.mean - target.mean).square().sum())
    noise = each.variance / len(each.gradients) + target.variance / len(target.gradients)
    return difference > 9 * noise
