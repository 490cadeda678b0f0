"""Which factor it is that an estimator has too many: a power of sigma, a step, or a baseline's own sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from steepest.estimators._auditing.claim import rebuilt
from steepest.estimators._auditing.naming import Shape
from steepest.estimators._auditing.samples import Samples
from steepest.estimators._auditing.site import Site, Subject

__all__ = ["named_factor"]

POWERS = (1, -1, 2, -2, 3, -3)
STEPS = (2.0, 0.5, 4.0, 0.25)

Measured = tuple[float, float]
"""A factor and its standard error."""


def named_factor(subject: Subject, site: Site, samples: Samples, shape: Shape) -> tuple[str, str]:
    """Return the name of a factor, and a sentence."""
    factor: Measured = (shape.factor, shape.error)
    sigma = subject.claim.sigma
    rows = len(samples.rows[0])
    told = f"The estimate is the gradient times {shape.factor:.4g}"
    if shape.factor < 0:
        return "flipped sign", f"{told}: the sign is wrong, and so is the scale."

    def measured(source: Any, at: float) -> Measured:
        there = Site(subject, site.row, subject.claim.at(at), source)
        return there.evidence().factor()

    own = _own_sample(subject, samples, factor, rows, lambda source: measured(source, sigma))
    if own:
        return "own sample in the baseline", f"{told}, which is {own}: the baseline of a sample contains that sample."
    power = _power_of_sigma(subject, site, factor, measured)
    step = next((each for each in STEPS if _near(factor, each)), None)
    if power is not None and (step is None or power[1]):
        name = "sigma" if power[0] == 1 else f"sigma^{power[0]}"
        seen = f", and at another sigma again {name}" if power[1] else ""
        return "missing factor of sigma", f"{told}, which is {name} for sigma={sigma:g}{seen}."
    if step is not None:
        return "wrong step", f"{told}: the difference is divided by another step than the points are apart."
    return "wrong factor", f"{told} (+- {shape.error:.2g}), at all points alike."


def _near(factor: Measured, expected: float, *, tolerance: float = 0.004) -> bool:
    value, error = factor
    return abs(value - expected) <= max(4 * error, tolerance * expected)


def _own_sample(
    subject: Subject, samples: Samples, factor: Measured, rows: int, again: Callable[[Any], Measured]
) -> str:
    """Return (n - 1) / n as text, if that is the factor for n samples, and for twice as many too."""
    if not subject.claim.sigma or rows < 2:
        return ""
    for count in (rows, rows // 2) if samples.paired else (rows,):
        if count < 2 or not _near(factor, (count - 1) / count, tolerance=min(0.004, 0.2 / count)):
            continue
        if 4 * factor[1] > 1 / count:
            continue
        twin = rebuilt(subject.source, samples=2 * int(getattr(subject.source, "samples", 0)))
        if twin is not None:
            site = Site(subject, subject.exact.flat.double(), None, twin)
            if site.evaluations() == 2 * rows and not _near(again(twin), (2 * count - 1) / (2 * count)):
                continue
        return f"(n - 1) / n for n = {count}"
    return ""


def _power_of_sigma(
    subject: Subject, site: Site, factor: Measured, measured: Callable[[Any, float], Measured]
) -> tuple[int, bool] | None:
    """Return which power of sigma the factor is, and whether that was seen at another sigma too."""
    sigma = subject.claim.sigma
    if not sigma or factor[0] <= 0:
        return None
    powers = [each for each in POWERS if abs(sigma**each - 1) > 0.05 and _near(factor, sigma**each, tolerance=0.02)]
    if not powers:
        return None
    other = sigma * 1.5
    twin = rebuilt(subject.source, sigma=other)
    if twin is None:
        return powers[0], False
    there = Site(subject, site.row, subject.claim.at(other), twin)
    scale = there.look().scale(there.claim, subject.fresh(), subject.space)
    if math.isnan(scale) or not 0.85 < scale < 1.2:  # the copy does not heed the new sigma
        return powers[0], False
    found = measured(twin, other)
    for power in powers:
        if _near(found, other**power, tolerance=0.02):
            return power, True
    return None
