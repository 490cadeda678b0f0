"""The measurement of candidates, within a budget."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor

from steepest.estimators._auditing.meter import Exhausted, Meter
from steepest.estimators._auditing.repetitions import checked, flat
from steepest.estimators._auditing.watched import Watched
from steepest.estimators._choosing.choice import Choice
from steepest.estimators._choosing.probe import PAIRS, Probe
from steepest.estimators._estimate import Point
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._objective import Objective
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource
from steepest.estimators._space import Space

__all__ = ["Trial"]

_SURE = 2048
"""Pairs of points at which an objective must have one value to be called constant, if these are affordable."""

FEWEST = 8
"""Estimates from which a variance can be told at all."""

MOST = 2000
"""Estimates of a candidate after which its variance is known to a few percent."""


@dataclass
class Measured:
    """Estimates of a candidate."""

    source: GradientSource
    gradients: list[Tensor]

    @property
    def mean(self) -> Tensor:
        """The mean estimate, [d]."""
        return torch.stack(self.gradients).mean(0)

    @property
    def variance(self) -> float:
        """The variance of one estimate, summed over entries; infinite where one is not finite."""
        found = float(torch.stack(self.gradients).var(0).sum())
        return found if math.isfinite(found) else math.inf

    @property
    def uncertainty(self) -> float:
        """The relative standard error of the variance."""
        squares = (torch.stack(self.gradients) - self.mean).square().sum(1)
        mean = float(squares.mean())
        return float(squares.std()) / mean / math.sqrt(len(squares)) if mean else 0.0


class Trial:
    """A measurement.

    Args:
        objective: f.
        x: The point.
        space: Its structure.
        budget: The most evaluations.
        generator: From which all random numbers come.
        samples: Evaluations of one estimate.
        given: Candidates of the user's own; empty for those of this package.
    """

    def __init__(
        self,
        objective: Objective,
        x: Point,
        space: Space,
        budget: int,
        generator: Generator,
        samples: int,
        given: list[GradientSource],
    ) -> None:
        self._x, self._space, self._budget, self._generator = x, space, budget, generator
        self._samples, self._even, self._given = samples, samples - samples % 2, given
        self._meter = Meter(budget)
        metered = self._meter.objective(objective, space)
        self._probe = Probe(metered, space, self._meter, generator)
        self._watched = Watched(metered, space)

    def choice(self, sigma: float | None) -> Choice:
        """Return the choice for a scale; None for one that is found."""
        probe, scale = self._probe, sigma
        try:
            probe.again()
            probe.look(sigma)
            if not sigma and not self._given:
                if probe.looked and not probe.jumps:
                    return self._derivative()
                scale = probe.visible_scale()
            elif sigma is None:
                scale = probe.visible_scale()
            elif sigma and not probe.graph and self._meter.left >= 256:
                probe.pairs(sigma)
            if probe.constant and probe.farthest >= (sigma or probe.unit):
                probe.pairs(probe.farthest, max(PAIRS, min(self._meter.left // 4, _SURE)))  # a jump may be far away
                if probe.constant:
                    return self._constant(scale or 0.0)
            return self._race(self._given or self._usual(scale or 0.0), scale or 0.0)
        except Exhausted:
            return self._unknown(scale)

    def _derivative(self) -> Choice:
        """Return the choice for f itself, which has no jumps."""
        size = self._space.size
        if self._probe.graph:
            return self._certain(
                Backprop(),
                0.0,
                "The objective has a derivative that is not zero, and no jumps were seen near x: backpropagation "
                "has no variance, and takes one evaluation and a backward pass. It sees f at x alone; pass sigma > 0 "
                "for the gradient of a smoothed f.",
            )
        if 2 * size <= self._samples:
            return self._certain(
                FiniteDifference(),
                0.0,
                "No jumps were seen near x, and autograd does not know a derivative: central differences have no "
                f"variance, and {2 * size} evaluations per estimate are affordable.",
            )
        error = math.sqrt((size + 1) / (self._samples // 2))
        return self._certain(
            FiniteDifference(samples=self._samples // 2, directions="random"),
            error,
            f"No jumps were seen near x, and autograd does not know a derivative. Differences along all {size} "
            f"coordinates would take {2 * size} evaluations; along random directions, {self._samples} give an "
            f"error of about {error:.2g} times the gradient.",
        )

    def _certain(self, source: GradientSource, error: float, reason: str) -> Choice:
        return Choice(source, reason, True, 0.0, (source,), (error,), (0.0,), self._meter.spent)

    def _usual(self, sigma: float) -> list[GradientSource]:
        """Return the candidates of this package for a scale."""
        even, size, probe = self._even, self._space.size, self._probe
        found: list[GradientSource] = [
            ScoreFunction(sigma, even),
            ScoreFunction(sigma, self._samples, antithetic=False),
        ]
        if even >= 8:
            found.append(ScoreFunction(sigma, even, baseline="control-variate"))
        if probe.jumps or probe.noise or not probe.looked:
            return found
        found.append(FiniteDifference(samples=even // 2, sigma=sigma, directions="random"))
        if 2 * size <= self._samples:
            found.append(FiniteDifference(samples=self._samples // (2 * size), sigma=sigma))
        if probe.graph:
            found += [Pathwise(sigma, self._samples), Pathwise(sigma, even, antithetic=True)]
        return found

    def _race(self, sources: list[GradientSource], sigma: float) -> Choice:
        """Measure all candidates with half of the budget, and the best three with the rest."""
        measured = [Measured(source, []) for source in sources]
        share = self._meter.left // 2 // len(measured)
        for each in measured:
            self._measure(each, share)
        known = [each for each in measured if len(each.gradients) >= FEWEST]
        if not known:
            return self._unknown(sigma)
        known.sort(key=lambda each: each.variance)
        for index, each in enumerate(known[:3]):
            self._measure(each, self._meter.left // (len(known[:3]) - index))
        return self._result(known, len(measured) - len(known), sigma)

    def _measure(self, measured: Measured, share: int) -> None:
        """Call a candidate as often as its share of evaluations allows; a call beyond it is broken off."""
        counted: Any = getattr(measured.source, "evaluations", None)
        cost = int(cast("Any", counted)(self._x)) if callable(counted) else 1
        meter, objective = self._meter, self._watched.objective
        if share < 1:
            return
        with contextlib.suppress(Exhausted), meter.within(share / meter.left):
            while len(measured.gradients) < MOST and meter.left >= max(cost, 1):
                before = meter.spent
                estimate = checked(measured.source(objective, self._x, self._generator), self._space)
                measured.gradients.append(flat(estimate.gradient))
                cost = meter.spent - before

    def _result(self, known: list[Measured], missing: int, sigma: float) -> Choice:
        score = [each for each in known if isinstance(each.source, ScoreFunction)]
        target = min(score or known, key=lambda each: each.variance / len(each.gradients))
        length = float(target.mean.norm())
        biased = {id(each) for each in known if each is not target and _differs(each, target)}

        def error(each: Measured) -> float:
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
        reason += f".{self._seen()}"
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
            not open_ones and not missing and (self._probe.looked or bool(self._probe.noise)),
            sigma,
            tuple(each.source for each in known),
            tuple(each / scale for each in errors),
            tuple(doubt),
            self._meter.spent,
        )

    def _seen(self) -> str:
        """Return what is known about the objective, as sentences."""
        probe = self._probe
        if probe.noise:
            told = f" The objective is noisy: at one point, its values have a standard deviation of {probe.noise:.2g}"
            return f"{told}." if self._given else f"{told}. Jumps cannot be told from that: values alone are used."
        if not probe.looked:
            told = " The budget was too small to look for jumps"
            return (
                f"{told}."
                if self._given
                else f"{told}: whether the objective has a derivative is unknown, and a score function needs none."
            )
        if probe.jumps:
            return " The objective has jumps near x, across which its derivative does not see: values alone are used."
        return ""

    def _constant(self, sigma: float) -> Choice:
        """Return what is said where all values are equal."""
        probe = self._probe
        reason = (
            f"The objective had the same value at all {probe.compared} points around x, up to a scale of "
            f"{probe.farthest:g}: as far as these show it is constant there, and every estimate is zero. Pass a larger "
            "sigma if it changes farther away."
        )
        return self._unmeasured(sigma, reason)

    def _unknown(self, sigma: float | None) -> Choice:
        """Return what is said where the budget is too small to measure anything."""
        reason = f"A budget of {self._budget} evaluations is too small to measure anything. "
        if self._given:
            reason += "This is the first candidate."
        else:
            reason += (
                "Whether the objective has jumps is unknown. A score function with antithetic pairs is unbiased "
                "whatever the objective is."
            )
        return self._unmeasured(sigma, reason)

    def _unmeasured(self, sigma: float | None, reason: str) -> Choice:
        source = self._given[0] if self._given else ScoreFunction(sigma or 0.1, self._even)
        scale: Any = getattr(source, "sigma", None)
        scale = float(scale) if isinstance(scale, (int, float)) else sigma or 0.0
        return Choice(source, reason, False, scale, (), (), (), self._meter.spent)


def _differs(each: Measured, target: Measured) -> bool:
    """Return whether two means differ by more than their noise."""
    difference = float((each.mean - target.mean).square().sum())
    noise = each.variance / len(each.gradients) + target.variance / len(target.gradients)
    return difference > 9 * noise
