"""An estimator, called again and again at one point, and the statistics of what it returns."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.errors import InvalidArgument
from steepest.estimators._auditing.meter import Exhausted
from steepest.estimators._auditing.watched import Watched
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._objective import Objective
from steepest.estimators._space import Space

__all__ = ["Repetitions", "Sums", "checked", "flat"]

TOGETHER = 64
"""Calls from which on they are made at once."""

_AT_ONCE = 1 << 18
"""Numbers of the samples of such calls: they stay in the cache."""


def flat(point: Any) -> Tensor:
    """Return a point as a vector in float64."""
    if isinstance(point, Mapping):
        parts: Any = point.values()
        return torch.cat([each.detach().reshape(-1).double() for each in parts])
    return point.detach().reshape(-1).double()


def checked(found: Any, space: Space) -> Estimate:
    """Return what a source has returned, if it is an estimate at such a point.

    Raises:
        InvalidArgument: If it is not.
    """
    if not isinstance(found, Estimate):
        raise InvalidArgument(
            "the estimator must return an Estimate",
            got=type(found).__name__,
            remedy="Return Estimate(value, gradient, standard_error, evaluations).",
        )
    expected, given = _shapes(space.point(space.flat)), _shapes(found.gradient)
    if given != expected:
        raise InvalidArgument(
            f"the gradient of an estimate must have the structure of x, {expected}",
            got=given,
            remedy="Return one number per entry of x.",
        )
    return found


def _shapes(point: Any) -> Any:
    if isinstance(point, Mapping):
        named: Any = point
        return {name: tuple(each.shape) for name, each in named.items()}
    return tuple(point.shape) if isinstance(point, Tensor) else type(point).__name__


_SMALL = 1 << 11
"""Numbers of the samples of one call whose standard errors are read often."""


@dataclass
class Sums:
    """What is added up over repetitions, relative to a centre, so that it can be combined with that of others.

    Attributes:
        count: Repetitions.
        first: Sums of the estimates minus the centre, [d].
        second: Sums of its squares, [d].
        along: The component of each estimate in the direction of the reference, over the length of the reference.
        series: The same, of those estimates that were made one after the other.
        values: The estimates of the value.
        claimed: The sum over entries of the squared standard errors over the squared scale, by repetition.
        spread: The same of the squared deviations from the centre, by repetition.
        entries: Of those repetitions, sums per entry: of the deviation, of the squared standard error c, of the squared
            deviation s, all in units of the scale, and of c^2, c s and s^2, [6, d]; zeros if none was read.
    """

    count: int
    first: Tensor
    second: Tensor
    entries: Tensor
    along: list[Tensor] = field(default_factory=list[Tensor])
    values: list[Tensor] = field(default_factory=list[Tensor])
    claimed: list[Tensor] = field(default_factory=list[Tensor])
    spread: list[Tensor] = field(default_factory=list[Tensor])
    series: list[Tensor] = field(default_factory=list[Tensor])

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
            self.entries + other.entries,
            self.along + other.along,
            self.values + other.values,
            self.claimed + other.claimed,
            self.spread + other.spread,
            self.series + other.series,
        )

    @property
    def reads(self) -> int:
        """Of how many repetitions the standard errors were read."""
        return sum(map(len, self.claimed))

    @property
    def variance(self) -> Tensor:
        """The variance of one estimate per entry, [d]."""
        return (self.second - self.first.square() / self.count).clamp(min=0) / max(1, self.count - 1)

    @property
    def error(self) -> Tensor:
        """The standard error of the mean per entry, [d]."""
        return (self.variance / self.count).sqrt()

    def factor(self) -> tuple[float, float]:
        """Return the component of the mean along the reference, over its length, and the standard error of that."""
        return _mean(self.along)

    def value(self) -> tuple[float, float]:
        """Return the mean value, and its standard error."""
        return _mean(self.values)

    def correlation(self) -> float:
        """Return the correlation of successive estimates, in units of its standard error."""
        if not self.series:
            return 0.0
        series = torch.cat(self.series)
        series = series - series.mean()
        power = float(series.square().sum())
        if len(series) < 8 or power == 0:
            return 0.0
        return float((series[1:] * series[:-1]).sum()) / power * math.sqrt(len(series))


def _mean(parts: list[Tensor]) -> tuple[float, float]:
    every = torch.cat(parts)
    spread = float(every.std()) if len(every) > 1 else 0.0
    return float(every.mean()), spread / math.sqrt(len(every))


class Repetitions:
    """Calls a source at one point.

    Args:
        source: The estimator.
        objective: f, watched.
        x: The point.
        space: Its structure.
        generator: Passed to each call.
        reference: The gradient with which it is compared, [d], float64.

    Attributes:
        calls: How often it was called.
        evaluations: Evaluations of f that were counted.
        wrong: The first pair of evaluations as reported and as counted that differ, else None.
        finite: Whether all gradients were finite.
        zero: Whether all gradients were zero.
        centre: The mean of the first estimates, [d]; None before.
        readable: Whether standard errors can be read when calls are made at once, as far as is known.
    """

    def __init__(
        self, source: Any, objective: Watched, x: Point, space: Space, generator: Generator, reference: Tensor
    ) -> None:
        self._source, self._watched, self._x, self._space = source, objective, x, space
        self._called: Objective = objective.objective
        self._generator, self._reference = generator, reference
        length = float(reference.norm())
        self._length = length or 1.0
        self._direction = reference / length if length else torch.ones_like(reference) / math.sqrt(len(reference))
        self.calls = self.evaluations = 0
        self.wrong: tuple[int, int] | None = None
        self.finite, self.zero = True, True
        self._twin: Any = None
        self.readable = True
        self._may_be_mapped = space.named is None and not objective.looped
        self.centre: Tensor | None = None
        self._scale: Tensor | None = None

    def call(self, generator: Generator | None = None) -> Any:
        """Return one estimate."""
        before = self._watched.count
        found = self._source(self._called, self._x, self._generator if generator is None else generator)
        if not self.calls:
            checked(found, self._space)
        counted = self._watched.count - before
        self.calls += 1
        self.evaluations += counted
        if counted != found.evaluations and self.wrong is None:
            self.wrong = int(found.evaluations), counted
        return found

    def run(self, count: int, *, errors: bool, together: bool | None = None) -> Sums:
        """Return the sums over `count` calls, or over fewer where a limit is reached.

        Raises:
            Exhausted: If it is reached in the first one.

        Args:
            count: At least 1.
            errors: Whether the standard errors are read.
            together: Whether many calls may be made at once; None for: if no standard errors are read.
        """
        if (not errors if together is None else together) and count >= TOGETHER:
            found = self._run_together(count, errors=errors and self.readable)
            if found is not None:
                return found
        return self._one_by_one(count, errors=errors)

    def _one_by_one(self, count: int, *, errors: bool) -> Sums:
        gradients: list[Tensor] = []
        values: list[Tensor] = []
        claimed: list[Tensor] = []
        sums: Sums | None = None
        at_once = max(16, min(1024, (1 << 20) // max(1, self._space.size)))
        done = 0
        while done < count:
            try:
                found = self.call()
            except Exhausted:
                if not done:
                    raise
                count = done
                if not gradients:
                    break
            else:
                done += 1
                gradients.append(flat(found.gradient))
                values.append(found.value.detach().reshape(()))
                if errors:
                    claimed.append(flat(found.standard_error))
            if len(gradients) == at_once or done >= count:
                more = self._sums(torch.stack(gradients), torch.stack(values), torch.stack(claimed) if errors else None)
                sums = more if sums is None else sums + more
                gradients, values, claimed = [], [], []
        assert sums is not None
        return sums

    def _run_together(self, count: int, *, errors: bool) -> Sums | None:
        """Return the sums over `count` calls that torch.vmap makes at once; None where it cannot.

        The overhead of a call is most of its time. What is to be seen from call to call (stale samples, counts) has
        been seen before in calls one by one; a copy of the source is used, so that no state is left in it.
        """
        if self._twin is None and self._may_be_mapped:
            self._may_be_mapped = False
            try:
                self._twin = copy.deepcopy(self._source)
            except Exception:  # it holds something that cannot be copied
                return None
        twin = self._twin
        if twin is None or self.centre is None:
            return None

        def one(_: Tensor) -> tuple[Tensor, ...]:
            found = twin(self._called, self._x, self._generator)
            gradient, value = flat(found.gradient), found.value.detach().reshape(())
            return (gradient, value, flat(found.standard_error)) if errors else (gradient, value)

        per_call = max(1, self.evaluations // max(1, self.calls)) * self._space.size
        sums: Sums | None = None
        done = 0
        while done < count:
            size = min(count - done, max(16, _AT_ONCE // per_call))
            before = self._watched.count
            state = self._generator.get_state()
            try:
                made: Any = torch.vmap(one, randomness="different")(torch.zeros(size))
            except Exhausted:
                if sums is None:
                    raise
                return sums
            except Exception:  # the source or the objective looks at numbers
                self._generator.set_state(state)
                if errors:
                    self.readable = False
                    rest = self._run_together(count - done, errors=False)
                    return rest if sums is None or rest is None else sums + rest
                self._twin = None
                return sums + self._one_by_one(count - done, errors=False) if sums is not None else None
            self.calls += size
            self.evaluations += self._watched.count - before
            more = self._sums(made[0], made[1], made[2] if errors else None, together=True)
            sums = more if sums is None else sums + more
            done += size
        return sums

    def _sums(self, gradients: Tensor, values: Tensor, claimed: Tensor | None, *, together: bool = False) -> Sums:
        if self.centre is None:
            self.centre = gradients.mean(0)
            scale = gradients.var(0) if len(gradients) > 1 else torch.zeros_like(self.centre)
            # What is below rounding is no spread.
            tiny = (1e-6 if self._space.precision > 1e-12 else 1e-13) * (gradients.abs().amax() + 1e-300)
            self._scale = torch.where(scale > tiny.square(), scale, torch.inf)
        self.finite = self.finite and bool(gradients.isfinite().all())
        self.zero = self.zero and not bool(gradients.any())
        shifted = gradients - self.centre
        squares = shifted.square()
        made = Sums(len(gradients), shifted.sum(0), squares.sum(0), shifted.new_zeros((6, shifted.shape[1])))
        made.along.append(gradients @ self._direction / self._length)
        if not together:
            made.series.append(made.along[0])
        made.values.append(values.double())
        if claimed is not None:
            assert self._scale is not None
            c, s = claimed.square() / self._scale, squares / self._scale
            made.claimed.append(c.sum(1))
            made.spread.append(s.sum(1))
            every = (shifted / self._scale.sqrt(), c, s, c.square(), c * s, s.square())
            made.entries = torch.stack([each.sum(0) for each in every])
        return made

    def mean(self, sums: Sums) -> Tensor:
        """Return the mean estimate, [d]."""
        assert self.centre is not None
        return self.centre + sums.first / sums.count

    def error_ratio(self, sums: Sums) -> tuple[float, float]:
        """Return the reported variance over the measured one, and the standard error of that; nan where unknown."""
        assert self.centre is not None
        assert self._scale is not None
        if not sums.claimed:
            return math.nan, math.nan
        claimed, spread = torch.cat(sums.claimed), torch.cat(sums.spread)
        # The centre is not the mean.
        off = float(((sums.first / sums.count).square() / self._scale).sum())
        measured = (float(spread.mean()) - off) * len(spread) / max(1, len(spread) - 1)
        if not measured > 0 or not bool(claimed.isfinite().all()):
            return math.nan, math.nan
        ratio = float(claimed.mean()) / measured
        error = float((claimed - ratio * spread).std()) / math.sqrt(len(spread)) / measured
        return ratio, error

    def entry_ratios(self, sums: Sums) -> tuple[Tensor, Tensor]:
        """Return the same for every entry, [d]."""
        count = max(1, sums.reads)
        off, c, s, cc, cs, ss = sums.entries / count
        measured = (s - off.square()) * count / max(1, count - 1)
        ratio = c / measured
        error = (cc - 2 * ratio * cs + ratio.square() * ss - (c - ratio * s).square()).clamp(min=0)
        return ratio, (error / count).sqrt() / measured

    @property
    def read_at_once(self) -> bool:
        """Whether calls are made at once, and so small that reading the standard errors of many costs little."""
        per_call = self.evaluations / max(1, self.calls) * self._space.size
        return self.readable and per_call <= _SMALL and (self._twin is not None or self._may_be_mapped)

    @property
    def noiseless(self) -> bool:
        """Whether the estimates differ by no more than rounding."""
        assert self._scale is not None
        return bool(self._scale.isinf().all())
