"""The whole examination of an estimator at a point, from the first calls to the name of a fault."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steepest.errors import InvalidArgument
from steepest.estimators._auditing import zero
from steepest.estimators._auditing.claim import Claim
from steepest.estimators._auditing.comparing import FACTOR, Comparison, combined_error
from steepest.estimators._auditing.factors import named_factor
from steepest.estimators._auditing.meter import Exhausted
from steepest.estimators._auditing.naming import Evidence, shape_of
from steepest.estimators._auditing.samples import Samples
from steepest.estimators._auditing.site import Site, Subject
from steepest.estimators._auditing.spread import named_spread
from steepest.estimators._source import needs_autograd
from steepest.estimators._values import require_some

__all__ = ["Finding", "examine"]

SHARE = 0.75
"""The share of the limits, after the reference, for the comparison at x; the rest is for finding what is wrong."""

_NOISY = (
    "The objective has different values at one point (their standard deviation is {noise:.2g}): without a smoothing, "
    "sigma > 0, there is no gradient to compare with. Fix its random numbers, or audit an estimator with sigma > 0."
)


@dataclass
class Finding:
    """What an examination has found.

    Attributes:
        site: The reference and the repetitions at x.
        comparison: Their comparison; None where the estimator cannot be called.
        fault: Its name, None if there is none.
        reason: A sentence.
        zero: Whether the gradient is identically zero.
    """

    site: Site
    comparison: Comparison | None
    fault: str | None
    reason: str
    zero: bool = False


def examine(subject: Subject, row: Tensor) -> Finding:
    """Return what is found about an estimator at `row`."""
    try:
        require_some(subject.values(row[None]))
        noise = subject.noise(row)
    except Exhausted:
        noise = 0.0
    site = Site(subject, row)
    if not site.reference.known:
        return Finding(site, None, "undecided", _unknown(subject, row))
    if noise and subject.claim.sigma == 0:
        return Finding(site, None, "undecided", _NOISY.format(noise=noise))
    comparison: Comparison | None = None
    try:
        with subject.meter.within(SHARE, SHARE):
            samples = site.look()
            subject.deterministic = samples.same and all(not bool(each.nan_to_num().any()) for each in samples.errors)
            if not bool(site.reference.gradient.any()) and subject.constant(row):
                reason = "The objective had the same value at all points, so that nothing can be said."
                return Finding(site, None, "undecided", reason)
            stale = _stale(subject, samples)
            if stale:
                subject.deterministic = True
            comparison = site.compare()
            if stale:
                return Finding(site, comparison, "stale sample", stale)
        if site.repetitions.zero:
            reason = zero.everywhere(subject, row)
            if reason:
                return Finding(site, comparison, "identically zero", reason, zero=True)
        fault, reason = _name(subject, site, samples, comparison, noisy=noise > 0)
    except InvalidArgument:
        if not needs_autograd(subject.source) or not zero.without_graph(subject, row):
            raise
        return Finding(site, None, "identically zero", zero.no_graph(subject), zero=True)
    except Exhausted:
        return Finding(site, comparison, "undecided", f"Too few estimates to tell anything. {subject.meter.told()}")
    return Finding(site, comparison, fault, reason)


def _unknown(subject: Subject, row: Tensor) -> str:
    """Return why there is no reference."""
    claim, meter = subject.claim, subject.meter
    try:
        rows = row + (claim.sigma or 1e-2) * claim.perturbation.draw(256, row, subject.fresh(), subject.space.shape)
        share = float((~subject.values(rows).isfinite()).double().mean())
    except Exhausted:
        share = 0.0
    if share:
        return (
            f"The objective is NaN or infinite at {share:.2g} of the points around x: there is no gradient of its mean "
            "to compare with. Let it return a large finite value there, or choose a smaller sigma."
        )
    return f"The gradient to compare with could not be found. {meter.told()}"


def _name(
    subject: Subject, site: Site, samples: Samples, comparison: Comparison, *, noisy: bool = False
) -> tuple[str | None, str]:
    """Return the name of what a comparison has shown, and a sentence."""
    found = comparison.found
    if not site.repetitions.finite:
        return "not finite", "An estimate of the gradient was NaN or infinite."
    if found == "correlation":
        strength = comparison.sums.correlation() / math.sqrt(comparison.sums.count)
        return "stale sample", (
            f"Successive estimates have a correlation of {strength:.2f}: a call does not draw all of its samples anew."
        )
    if found == "gradient":
        try:
            return _name_bias(subject, site, samples, comparison)
        except Exhausted:
            return _named_here(subject, site, comparison)
    if found == "standard error":
        return named_spread(subject, site, samples, comparison)
    others = _other_faults(site, samples, comparison, noisy=noisy)
    if others:
        return others
    if comparison.powerful:
        reported = comparison.sums.entries[1]  # sums of squares
        if bool(reported.isnan().all()):
            return None, "It reports no standard errors."
        return None, "" if bool(reported.isfinite().all()) else "Some of the standard errors it reports are not finite."
    return _without_power(subject, site, comparison)


def _named_here(subject: Subject, site: Site, comparison: Comparison) -> tuple[str, str]:
    """Return the name of a bias from the repetitions at x alone, where the limits allow no more."""
    sums, reference = comparison.sums, site.reference
    here = Evidence(reference.gradient, site.repetitions.mean(sums), combined_error(sums, reference))
    shape = shape_of([here])
    name = {"sign": "flipped sign", "factor": "wrong factor"}.get(shape.kind, "additive term")
    if shape.kind == "factor" and shape.factor < 0:
        name = "flipped sign"
    factor = here.factor()
    return name, (
        f"The component along the gradient is {factor[0]:.4g} (+- {factor[1]:.2g}) times its length, as seen at x "
        f"alone: the cause could not be looked for. {subject.meter.told()}"
    )


def _stale(subject: Subject, samples: Samples) -> str:
    """Return what shows that a sample is used again, or nothing."""
    if not subject.claim.sigma > 0 or _discrete(subject.claim):
        return ""
    if samples.same and not subject.deterministic and any(bool(each.any()) for each in samples.rows):
        return "Every call evaluated f at the same points, although the generator had moved on."
    if samples.repeated > 0.02 and not samples.same:
        return (
            f"{samples.repeated:.0%} of the points of a call had been in the call before: a call does not draw all of "
            "its samples anew."
        )
    if samples.doubled > 0.1:
        return f"{samples.doubled:.0%} of the points of a call are copies of others in it, but count as samples."
    return ""


def _discrete(claim: Claim) -> bool:
    distribution: Any = claim.perturbation.distribution
    if distribution is None:
        return False
    try:
        return bool(distribution.support.is_discrete)
    except (NotImplementedError, AttributeError):
        return False


def _name_bias(subject: Subject, site: Site, samples: Samples, comparison: Comparison) -> tuple[str | None, str]:
    """Return the name of a bias of the gradient."""
    claim = subject.claim
    if claim.sigma > 0 and samples.same:
        return "stale sample", "Every call evaluated f at the same points, and their mean is not that of q."
    scale = samples.scale(claim, subject.fresh(), subject.space)
    delta = getattr(subject.source, "delta", None)
    own = float(delta) if isinstance(delta, (int, float)) else 0.0
    if claim.sigma > 0 and len(samples.rows) and not math.isnan(scale):
        widest = math.hypot(1, own / claim.sigma)
        if not 0.85 < scale < 1.18 * widest:
            return "wrong step", (
                f"f was evaluated at distances from x that are {scale:.3g} times those of sigma e: "
                "another step than sigma scales the perturbation."
            )
    if own:
        discretised = _discretisation(site, own)
        if discretised is not None:
            fault, reason = discretised
            return discretised if fault else _other_faults(site, samples, comparison, noisy=True) or (None, reason)
    evidence = [site.evidence()]
    for other in subject.others(site.row):
        evidence.append(other.evidence())
    shape = shape_of(evidence)
    if shape.kind == "sign":
        size = len(site.reference.gradient)
        if len(shape.entries) == size:
            return "flipped sign", "The estimate is minus the gradient."
        listed = ", ".join(map(str, shape.entries[:5])) + (" and others" if len(shape.entries) > 5 else "")
        return "flipped sign", f"Of {size} entries, the sign is wrong in entry {listed}; the others agree."
    if shape.kind == "factor":
        return named_factor(subject, site, samples, shape)
    if shape.kind == "factors":
        told = ", ".join(f"{each.factor()[0]:.3g}" for each in evidence)
        return "wrong factor", f"The estimate is the gradient times a factor that depends on the point: {told}."
    bias = float(evidence[0].bias.norm())
    same = "the same at all points" if shape.kind == "term" else "which changes from point to point"
    return "additive term", (
        f"The estimate is the gradient plus another vector, {same}, of length {bias:.3g} here (the gradient: "
        f"{float(site.reference.gradient.norm()):.3g}): a term is missing or too many."
    )


def _discretisation(site: Site, delta: float) -> tuple[str | None, str] | None:
    """Return whether the bias comes from the step of a finite difference: whether another step changes it."""
    before, halved, tenfold = site.evidence(), site.with_step(delta / 2), site.with_step(delta * 10)
    if halved is None or tenfold is None:
        return None
    weight = before.error.square().clamp(min=1e-300).reciprocal()
    power = float((weight * before.bias.square()).sum())
    error = 1.5 * power**-0.5 if power else math.inf

    def share(other: Evidence) -> float:
        return float((weight * before.bias * other.bias).sum()) / power

    size = float(before.bias.norm() / before.gradient.norm())
    if abs(share(tenfold)) + 3 * error < 0.5 and float(before.bias.norm()) < 2 * site.rounding(delta):
        told = (
            f"With ten times the step delta={delta:g} the bias is {share(tenfold):.2f} times as large: it is rounding."
        )
        return (None, f"{told} It is {size:.1%} of the gradient.") if size < FACTOR else ("step too small", told)
    if share(halved) + 3 * error < 0.75:
        told = (
            f"With half of the step delta={delta:g} the bias is {share(halved):.2f} times as large: the step causes it."
        )
        if size < FACTOR:
            return None, f"{told} It is {size:.1%} of the gradient."
        return "step too large", f"{told} Try delta={delta / 10:.2g}."
    if abs(share(tenfold)) + 3 * error < 0.5:
        return "step too small", (
            f"With ten times the step delta={delta:g} the bias is {share(tenfold):.2f} times as large: it is rounding."
        )
    return None


def _other_faults(site: Site, samples: Samples, comparison: Comparison, *, noisy: bool) -> tuple[str, str] | None:
    """Return a fault of an estimator whose gradient is right."""
    wrong = site.repetitions.wrong
    if wrong is not None:
        return (
            "wrong evaluations",
            f"An estimate said evaluations={wrong[0]}; f was evaluated at {wrong[1]} points.",
        )
    if not samples.reproducible and not noisy:
        return "generator not used", "Two calls with generators in the same state evaluated f at different points."
    value, error = comparison.sums.value()
    every = torch.cat(samples.values)
    reference = site.reference
    spread = float((every - reference.value).abs().max() if site.claim.sigma == 0 else 0.03 * every.std())
    rounding = (1e-5 if site.precision > 1e-12 else 1e-9) * abs(reference.value)
    allowed = 5 * math.hypot(error, reference.value_error) + spread + rounding
    if not abs(value - reference.value) <= allowed:
        return "wrong value", f"The value is {value:.6g} on average, and the objective {reference.value:.6g}."
    return None


def _without_power(subject: Subject, site: Site, comparison: Comparison) -> tuple[str | None, str]:
    """Return what is said where a wrong factor would not have been seen at x."""
    length = float(site.reference.gradient.norm())
    with contextlib.suppress(Exhausted):
        for other in subject.others(site.row):
            if length > 0.1 * float(other.reference.gradient.norm()):
                continue
            nearby = other.compare()
            if nearby.found:
                return _name(subject, other, other.look(), nearby)
            if nearby.powerful:
                return None, (
                    "The gradient is too close to zero here for its factor to be seen; at a point nearby it is right."
                )
    told = subject.meter.told()
    if not math.isfinite(comparison.needed):
        known = site.reference.along / length if length else math.inf
        return "undecided", (
            f"Nothing deviates, but the gradient to compare with is known to {known:.2g} of its length only, not well "
            f"enough for a factor of 1.02 to be seen. {told}"
        )
    per_call = site.repetitions.evaluations / max(1, site.repetitions.calls)
    remedy = "a larger budget" if subject.meter.ended == "evaluations" else "more seconds"
    return "undecided", (
        f"Nothing deviates, but a factor of 1.02 could not be seen: that takes {comparison.needed:,.0f} estimates, "
        f"which are {comparison.needed * per_call:,.0f} evaluations. {told} Pass {remedy}, or an estimator with more "
        "samples."
    )
