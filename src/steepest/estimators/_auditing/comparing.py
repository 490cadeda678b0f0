"""Whether an estimator agrees with the reference at one point, as a sequential test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steepest.estimators._auditing.meter import Exhausted, Meter
from steepest.estimators._auditing.reference import Reference
from steepest.estimators._auditing.repetitions import Repetitions, Sums

__all__ = ["ALLOWANCE", "ERROR_RATIO", "FACTOR", "Comparison", "compare"]

FACTOR = 0.02
"""The error of the factor that is to be found wherever the gradient is not zero."""

ALLOWANCE = 5e-4
"""The share of the length of the gradient that rounding and discretisation may cost; it is added to standard errors."""

FIRST = 64
"""Repetitions before the first look; each further look doubles them."""

SUSPECTED, CONFIRMED = 3.6, 2.4
"""A deviation counts if it has the first number of standard errors at a look, and in repetitions that are drawn for
this purpose, again the second one, in the same direction: normal tails of 3e-4 times 8e-3."""

ACCEPTED = 3.3
"""The factor 1 is accepted when factors beyond 1 +- FACTOR are this number of standard errors away."""

ERROR_RATIO = (0.81, 1.21)
"""The reported over the true variance of estimates that passes: standard errors within 10%."""

FEWEST = 16
"""Repetitions from which anything can be told."""

ENTRY_RATIO = (0.64, 1.5625)
"""The same for a single entry: standard errors within 25%."""

READ, READ_AT_ONCE = 1024, 4096
"""Repetitions of which the standard error is read, one after the other, and where many are made at once."""

Found = Literal["gradient", "standard error", "correlation", "value"]


@dataclass
class Comparison:
    """What repetitions at one point have shown.

    Attributes:
        found: What deviates from what it should be; None if nothing does.
        powerful: Whether a factor of 1 + FACTOR would have been found.
        sums: Of all repetitions; after a deviation, of those that confirm it.
        needed: How many repetitions the power takes, by the spread so far.
        z: The deviation of each entry in standard errors, [d].
    """

    found: Found | None
    powerful: bool
    sums: Sums
    needed: float
    z: Tensor


def combined_error(sums: Sums, reference: Reference) -> Tensor:
    """Return the standard error of the bias per entry, [d]: of the mean, of the reference, and the allowance."""
    allowed = ALLOWANCE * reference.gradient.norm()
    return (sums.error.square() + reference.error.square() + allowed.square()).sqrt()


def factor_of(sums: Sums, reference: Reference) -> tuple[float, float]:
    """Return the component of the mean estimate along the reference, over its length, and its standard error."""
    factor, error = sums.factor()
    length = float(reference.gradient.norm()) or 1.0
    return factor, math.sqrt(error**2 + (reference.along / length) ** 2 + ALLOWANCE**2)


class _Pace:
    """How many calls are affordable, going by those since the beginning."""

    def __init__(self, repetitions: Repetitions, meter: Meter) -> None:
        self._repetitions, self._meter = repetitions, meter
        self._before, self._seconds = repetitions.calls, meter.seconds_left

    def calls(self, wanted: int) -> int:
        """Return how many of the calls that are wanted are affordable."""
        made, meter = self._repetitions, self._meter
        elapsed = self._seconds - meter.seconds_left if math.isfinite(self._seconds) else 0.0
        per_call = made.evaluations / max(1, made.calls)
        return meter.calls(wanted, per_call, elapsed / max(1, made.calls - self._before))


def compare(repetitions: Repetitions, reference: Reference, meter: Meter, *, deterministic: bool = False) -> Comparison:
    """Return whether an estimator's mean, its spread and its independence are what they should be.

    Looks are taken after 64, 128, 256, ... repetitions, until the factor is known to be 1 or something deviates. One
    that draws nothing is called a few times.

    Raises:
        Exhausted: If the limits allow less than a few repetitions.
    """
    first = _Look(repetitions, reference)
    if deterministic:
        sums = repetitions.run(3, errors=False)
        return first.result(sums, "gradient" if first.biased(sums) else None, exact=True)
    pace = _Pace(repetitions, meter)
    total = repetitions.run(FIRST, errors=True)
    if total.count < FEWEST:
        raise Exhausted
    wanted = FIRST
    while True:
        short = total.count < wanted
        if not repetitions.finite:
            return first.result(total, "gradient")
        suspects = first.suspects(total)
        more = pace.calls(min(total.count, 1 << 16)) if suspects else 0
        if suspects and (more >= FEWEST or short):
            errors = total.count <= READ or any(kind == "standard error" for kind, _, _ in suspects)
            second = _more(repetitions, max(more, FIRST), total, errors=errors) if more >= FEWEST else None
            if second is None or second.count < FEWEST:
                return first.result(total, None)
            for kind, index, sign in suspects:
                if first.deviation(second, kind, index) * sign > CONFIRMED:
                    return first.result(second, kind)
            total += second
        if first.accepted(total) and first.enough_read(total):
            return first.result(total, None)
        hopeless = total.count >= READ and not first.can_be_accepted
        if short or hopeless:
            return first.result(total, None)
        count = pace.calls(total.count)
        fresh = _more(repetitions, count, total, errors=first.to_be_read(total)) if count else None
        wanted = 2 * total.count
        total = total if fresh is None else total + fresh


def _more(repetitions: Repetitions, count: int, before: Sums, *, errors: bool) -> Sums | None:
    """Return the sums over more calls; None where not even one is affordable."""
    try:
        return repetitions.run(count, errors=errors, together=before.count >= READ)
    except Exhausted:
        return None


def _outside(ratio: Tensor, error: Tensor, allowed: tuple[float, float]) -> Tensor:
    """Return by how many standard errors ratios are outside a range; zero for those that are not known."""
    low, high = allowed
    # Relative to the ratio that is reported, so that a large one is as conspicuous as a small one.
    outside = torch.where(ratio > high, ratio - high, torch.where(ratio < low, ratio - low, 0.0))
    return torch.where(ratio.isfinite(), outside / error.clamp(min=1e-12), 0.0).nan_to_num()


class _Look:
    """The statistics of a look."""

    def __init__(self, repetitions: Repetitions, reference: Reference) -> None:
        self._repetitions, self._reference = repetitions, reference
        size = reference.gradient.numel()
        self._by_entry = math.sqrt(SUSPECTED**2 + 2 * math.log(size))

    def z(self, sums: Sums) -> Tensor:
        """Return the bias of every entry in standard errors."""
        bias = self._repetitions.mean(sums) - self._reference.gradient
        error = combined_error(sums, self._reference)
        return torch.where(bias == 0, 0.0, bias / error)

    def biased(self, sums: Sums) -> bool:
        """Return whether the mean deviates, for an estimator without noise."""
        if not self._repetitions.finite:
            return True
        return abs(self.deviation(sums, "gradient", -1)) > SUSPECTED or float(self.z(sums).abs().max()) > self._by_entry

    def deviation(self, sums: Sums, kind: Found, index: int) -> float:
        """Return a deviation in standard errors; of the gradient, entry `index`, or -1 for its factor."""
        if kind == "gradient":
            if index >= 0:
                return float(self.z(sums)[index])
            factor, error = factor_of(sums, self._reference)
            return (factor - 1) / error if bool(self._reference.gradient.any()) else 0.0
        if kind == "correlation":
            return sums.correlation()
        if kind == "standard error":
            if index >= 0:
                return float(self.by_entry(sums)[index])
            ratio, error = self._repetitions.error_ratio(sums)
            return float(_outside(torch.tensor(ratio), torch.tensor(error), ERROR_RATIO))
        value, error = sums.value()
        return (value - self._reference.value) / max(error, 1e-300)

    def suspects(self, sums: Sums) -> list[tuple[Found, int, int]]:
        """Return what deviates at a look: its kind, which entry, and in which direction."""
        found: list[tuple[Found, int, int]] = []
        correlation = self.deviation(sums, "correlation", -1)
        if abs(correlation) > self._by_entry + 0.4:
            found.append(("correlation", -1, 1 if correlation > 0 else -1))
        along = self.deviation(sums, "gradient", -1)
        if abs(along) > SUSPECTED:
            found.append(("gradient", -1, 1 if along > 0 else -1))
        z = self.z(sums)
        worst = int(z.abs().argmax())
        if float(z[worst].abs()) > self._by_entry:
            found.append(("gradient", worst, 1 if float(z[worst]) > 0 else -1))
        if sums.reads >= 4 * FIRST and sums.count < 2 * sums.reads:
            ratio = self.deviation(sums, "standard error", -1)
            if abs(ratio) > SUSPECTED:
                found.append(("standard error", -1, 1 if ratio > 0 else -1))
            ratios = self.by_entry(sums)
            worst = int(ratios.abs().argmax())
            if float(ratios[worst].abs()) > self._by_entry:
                found.append(("standard error", worst, 1 if float(ratios[worst]) > 0 else -1))
        return found

    def by_entry(self, sums: Sums) -> Tensor:
        """Return by how many standard errors the ratio of reported and true variance is outside its range, [d]."""
        return _outside(*self._repetitions.entry_ratios(sums), ENTRY_RATIO)

    def to_be_read(self, sums: Sums) -> bool:
        """Return whether more standard errors have to be read."""
        if sums.count < READ:
            return True
        ratio, _ = self._repetitions.error_ratio(sums)
        return math.isfinite(ratio) and self._repetitions.read_at_once and sums.reads < READ_AT_ONCE

    def enough_read(self, sums: Sums) -> bool:
        """Return whether enough standard errors were read, if there are any."""
        if sums.count < 4 * FIRST:
            return False
        ratio, _ = self._repetitions.error_ratio(sums)
        return not math.isfinite(ratio) or not self.to_be_read(sums)

    @property
    def can_be_accepted(self) -> bool:
        """Whether the reference is precise enough for a wrong factor to be seen."""
        length = float(self._reference.gradient.norm())
        return length > 0 and ACCEPTED * self._reference.along / length < FACTOR

    def accepted(self, sums: Sums) -> bool:
        """Return whether the factor is known to be 1."""
        factor, error = factor_of(sums, self._reference)
        return bool(self._reference.gradient.any()) and abs(factor - 1) + ACCEPTED * error < FACTOR

    def result(self, sums: Sums, found: Found | None, *, exact: bool = False) -> Comparison:
        """Return the comparison after the last look."""
        _, error = factor_of(sums, self._reference)
        _, noise = sums.factor()
        length = float(self._reference.gradient.norm()) or 1.0
        free = (FACTOR / (ACCEPTED + 0.3)) ** 2 - (self._reference.along / length) ** 2 - ALLOWANCE**2
        needed = math.inf if free <= 0 else sums.count * noise**2 / free
        resolved = bool(self._reference.gradient.any()) and exact and ACCEPTED * error < FACTOR
        powerful = self.accepted(sums) or resolved
        return Comparison(found, powerful, sums, needed, self.z(sums))
