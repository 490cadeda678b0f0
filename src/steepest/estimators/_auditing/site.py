"""An estimator under audit, and the points at which it is called."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.estimators._auditing.claim import Claim, rebuilt
from steepest.estimators._auditing.comparing import Comparison, combined_error, compare
from steepest.estimators._auditing.meter import Exhausted, Meter
from steepest.estimators._auditing.naming import Evidence
from steepest.estimators._auditing.reference import Reference, find_reference, precise
from steepest.estimators._auditing.repetitions import Repetitions
from steepest.estimators._auditing.samples import Samples, look_at
from steepest.estimators._auditing.watched import Watched
from steepest.estimators._estimate import Point
from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._space import Space

__all__ = ["Site", "Subject"]

ACCURACY = 1e-3
"""The relative standard error of a reference that is aimed at."""

REFERENCE = 1 << 22
"""The most evaluations of a reference."""

PLANNED = 1 << 20
"""Evaluations of a reference below which it is planned by what the time allows."""

OTHERS = 3
"""Points beside x at which a bias is measured."""

MOST = 1 << 15
"""The most repetitions for a mean from which a fault is named."""

NAMED = 0.004
"""The standard error of a factor with which it is told from others."""


class Subject:
    """What is audited.

    Args:
        source: The estimator.
        objective: f.
        x: The point.
        claim: What the estimator claims to differentiate.
        generator: From which all random numbers come.
        meter: What may be spent.

    Attributes:
        space: The structure of x, as the estimator gets it.
        exact: The structure of x in float64, if f takes it.
        objective: f, which stops at the limits.
        deterministic: Whether the estimator draws nothing, once that is known.
    """

    def __init__(
        self, source: Any, objective: Objective, x: Point, claim: Claim, generator: Generator, meter: Meter
    ) -> None:
        self.space = Space(x)
        self.source, self.objective, self.claim = source, meter.objective(objective, self.space), claim
        self.exact = precise(self.objective, x)
        self.generator, self.meter = generator, meter
        self.deterministic = False
        self._per_evaluation: float | None = None
        self._others: list[Site] | None = None

    def fresh(self) -> Generator:
        """Return a generator with a seed of its own."""
        seed = int(torch.randint(2**62, (), generator=self.generator, device=self.generator.device))
        return Generator(self.generator.device).manual_seed(seed)

    def reference(self, row: Tensor, claim: Claim) -> Reference:
        """Return the gradient at a row in float64, from a quarter of the evaluations that are left and 40% of the time.

        Where these do not allow one, or f is not finite there, it is not `known`.
        """
        at, meter, generator = row.to(self.exact.flat.dtype), self.meter, self.fresh()
        try:
            with meter.within(0.25, 0.4):
                timed = claim.sigma > 0 and math.isfinite(meter.seconds_left)
                patience = 0.5 * meter.seconds_left if timed and self._speed(at) else math.inf
                most = min(meter.left, REFERENCE)
                if timed:
                    # Above, the time may stop it, but does not shape it: the same seed gives the same reference.
                    affordable = meter.seconds_left / self._speed(at)
                    if affordable < min(most, PLANNED):
                        most = meter.calls(most, 1.0, self._speed(at))
                return find_reference(self.objective, self.exact, at, claim, generator, most, ACCURACY, patience)
        except Exhausted:
            return Reference.none(row)

    def _speed(self, at: Tensor) -> float:
        """Return the time of one evaluation among many, by a few at x."""
        if self._per_evaluation is None:
            most = min(4096, self.meter.left // 32, max(1, (1 << 22) // self.space.size))
            count = 2
            while True:
                elapsed = self._seconds(at, count)
                for _ in range(3):  # unless the machine was busy
                    if elapsed > 0.02:
                        elapsed = min(elapsed, self._seconds(at, count))
                if elapsed > 0.02 or count * 8 > most:
                    break
                count *= 8
            self._per_evaluation = max(elapsed / count, 1e-9)
        return self._per_evaluation

    def _seconds(self, at: Tensor, count: int) -> float:
        began = time.perf_counter()
        evaluate(self.objective, self.exact, at.expand(count, -1).clone())
        return time.perf_counter() - began

    def values(self, rows: Tensor) -> Tensor:
        """Return the values at rows."""
        with torch.no_grad():
            return evaluate(self.objective, self.exact, rows.to(self.exact.flat.dtype)).double()

    def scale(self, row: Tensor) -> float:
        """Return a distance over which an objective changes, as far as one can guess."""
        return max(2 * self.claim.sigma, 0.3 * max(1.0, float(row.square().mean().sqrt())))

    def around(self, row: Tensor, count: int, distance: float) -> Tensor:
        """Return random rows around one, rounded to the data type of x."""
        generator = self.fresh()
        noise = torch.randn((count, self.space.size), generator=generator, dtype=torch.float64, device=row.device)
        return self.space.rounded((row + distance * noise).to(self.space.flat.dtype)).double()

    def others(self, row: Tensor) -> Iterator[Site]:
        """Yield points around x at which f has a gradient."""
        if self._others is None:
            self._others = []
            for each in self.around(row, 2 * OTHERS, self.scale(row)):
                if len(self._others) == OTHERS:
                    break
                if bool(self.values(each[None]).isfinite().all()):
                    site = Site(self, each)
                    if site.reference.known:
                        self._others.append(site)
        yield from self._others

    def constant(self, row: Tensor) -> bool:
        """Return whether f has the same value at many points around x."""
        rows = torch.cat([self.around(row, 16, self.scale(row) * factor) for factor in (0.01, 0.1, 1.0, 10.0)])
        values = self.values(rows)
        return bool((values == values[0]).all())

    def noise(self, row: Tensor) -> float:
        """Return the standard deviation of f at one point, zero if it has the same values when evaluated again."""
        rows = row.expand(8, -1).clone()
        first, second = self.values(rows), self.values(rows)
        same = torch.equal(first.nan_to_num(), second.nan_to_num())
        return 0.0 if same else float((first - second).square().mean().sqrt()) / math.sqrt(2)


class Site:
    """A point, the gradient there, and the estimator called there.

    Args:
        subject: What is audited.
        row: The point [d], float64.
        claim: What the estimator claims; that of the subject if None.
        source: The estimator; that of the subject if None.

    Attributes:
        claim: What the estimator claims.
        reference: The gradient there.
        repetitions: The estimator there.
    """

    def __init__(self, subject: Subject, row: Tensor, claim: Claim | None = None, source: Any = None) -> None:
        self._subject, self.row = subject, row
        self.claim = claim or subject.claim
        self._source = subject.source if source is None else source
        self.reference = subject.reference(row, self.claim)
        self.watched = Watched(subject.objective, subject.space)
        self.repetitions = self._made(self._source)

    def _made(self, source: Any) -> Repetitions:
        space = self._subject.space
        point = space.point(self.row.to(space.flat.dtype))
        return Repetitions(source, self.watched, point, space, self._subject.generator, self.reference.gradient)

    @property
    def precision(self) -> float:
        """The relative spacing of numbers in the data type of x."""
        return self._subject.space.precision

    def rounding(self, delta: float) -> float:
        """Return about the length of the rounding errors of differences with a step."""
        reference = self.reference
        units = abs(reference.value) + float(self.row.abs().max() * reference.gradient.norm())
        return self.precision * units / delta * math.sqrt(len(self.row))

    def look(self) -> Samples:
        """Return the points at which the estimator evaluates f."""
        return look_at(self.repetitions, self.watched, self._subject.generator, self.row)

    def evaluations(self) -> int:
        """Return how many evaluations one call spends, by a call."""
        before = self.watched.count
        self.repetitions.call()
        return self.watched.count - before

    def compare(self) -> Comparison:
        """Return whether the estimator agrees with the reference here."""
        subject = self._subject
        return compare(self.repetitions, self.reference, subject.meter, deterministic=subject.deterministic)

    def evidence(self) -> Evidence:
        """Return the mean estimate here from new repetitions, beside the gradient."""
        return self._measured(self.repetitions)

    def with_step(self, delta: float) -> Evidence | None:
        """Return the same with another step of a finite difference; None where the estimator has no such setting."""
        twin = rebuilt(self._source, delta=delta)
        return None if twin is None else self._measured(self._made(twin))

    def _measured(self, repetitions: Repetitions) -> Evidence:
        subject = self._subject
        sums = repetitions.run(3 if subject.deterministic else 256, errors=False)
        if not subject.deterministic:
            factor, error = sums.factor()
            enough = max(NAMED, min(0.03 * abs(factor - 1), 0.02 * max(1.0, abs(factor))))
            wanted = sums.count * (error / enough) ** 2
            more = int(min(max(0.0, wanted - sums.count), MOST))
            per_call = repetitions.evaluations / repetitions.calls
            more = int(min(more, max(0.0, subject.meter.left / 8 / per_call)))
            if more > 1 and math.isfinite(wanted):
                with contextlib.suppress(Exhausted), subject.meter.within(1.0, 0.25):
                    sums += repetitions.run(more, errors=False)
        return Evidence(self.reference.gradient, repetitions.mean(sums), combined_error(sums, self.reference))
