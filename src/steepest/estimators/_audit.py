"""Whether an estimator of a gradient is right at a point, and if not, what is wrong with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor
from torch.distributions import Distribution

from steepest import _check
from steepest._figure import GREY, color, figure, line
from steepest.errors import InvalidArgument
from steepest.estimators._auditing.claim import Claim
from steepest.estimators._auditing.comparing import combined_error, factor_of
from steepest.estimators._auditing.examination import Finding, examine
from steepest.estimators._auditing.meter import Meter
from steepest.estimators._auditing.repetitions import flat
from steepest.estimators._auditing.site import Subject
from steepest.estimators._estimate import Point
from steepest.estimators._objective import Objective
from steepest.estimators._source import GradientSource
from steepest.estimators._space import Space

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["FAULTS", "Audit", "audit"]

FAULTS: dict[str, str] = {
    "identically zero": "The gradient is zero at all points, although the objective is not constant.",
    "not finite": "An estimate is NaN or infinite.",
    "stale sample": "Samples of one call are used in another one, or several times in one.",
    "generator not used": "The random numbers do not come from the generator that is passed.",
    "missing factor of sigma": "The estimate is the gradient times a power of sigma.",
    "flipped sign": "The sign of all entries is wrong, or of some.",
    "own sample in the baseline": "The baseline of a sample contains that sample: the factor is (n - 1) / n.",
    "wrong step": "The scale of the perturbation is not sigma, or a difference is divided by another step.",
    "step too large": "The step of a finite difference is so large that its error exceeds 2% of the gradient.",
    "step too small": "The step of a finite difference is so small that rounding errors dominate.",
    "wrong factor": "The estimate is the gradient times another factor.",
    "additive term": "The estimate is the gradient plus another vector: a term is missing, or too many.",
    "antithetic pairs counted as independent": "The gradient is right; its standard error is that of independent ones.",
    "wrong standard error": "The gradient is right, and its standard error is not within 10% of the spread.",
    "wrong evaluations": "The gradient is right, and the number of evaluations is not that of the points.",
    "wrong value": "The gradient is right, and the value is not that of the objective that is differentiated.",
    "undecided": "Nothing is known to be wrong, but a factor of 1.02 would not have been seen.",
}
"""What `Audit.fault` may be, and what it means."""


@dataclass(frozen=True)
class Audit:
    """What is known about an estimator at a point.

    Attributes:
        fault: A name from `FAULTS`; None if the estimator is right.
        reason: What was seen, in a sentence.
        bias: The mean of the estimates minus the gradient, in the structure of x.
        z: The bias of every entry in standard errors, which include that of the reference and .0005 of the length of
            the gradient for rounding and discretisation; in the structure of x.
        gradient: The reference, in the structure of x.
        standard_error: That of the bias, in the structure of x.
        factor: The component of the mean estimate along the gradient over its length: 1 for a right one.
        factor_error: The standard error of the factor.
        error_ratio: The reported standard error over the spread of the estimates; nan where none is reported.
        value: The mean of the estimates of the value.
        reference_value: The objective that is differentiated, at x.
        variance_per_evaluation: The variance of one estimate, summed over all entries, times its evaluations: what
            the mean over estimates with n evaluations in all has, times n.
        identically_zero: Whether the gradient is zero at all points although the objective is not constant.
        reference: How the gradient was found.
        repetitions: How often the estimator was called at x.
        evaluations: Evaluations of f in the whole audit.
    """

    fault: str | None
    reason: str
    bias: Any
    z: Any
    gradient: Any
    standard_error: Any
    factor: float
    factor_error: float
    error_ratio: float
    value: float
    reference_value: float
    variance_per_evaluation: float
    identically_zero: bool
    reference: str
    repetitions: int
    evaluations: int

    @property
    def passed(self) -> bool:
        """Whether the estimator is right: a factor of 1.02 would have been found, and nothing was."""
        return self.fault is None

    @property
    def suggested_samples(self) -> int | None:
        """Evaluations for which the standard error of the gradient is a tenth of its length; see `samples_for`."""
        return self.samples_for(0.1)

    def samples_for(self, accuracy: float) -> int | None:
        """Return the evaluations for which the standard error is a share of the length of the gradient.

        Args:
            accuracy: The share, > 0.

        Returns:
            Their number; None if the gradient or the estimator is zero, or the number beyond floating point.

        Raises:
            InvalidArgument: If the accuracy is not positive.
        """
        accuracy = _check.in_range("accuracy", accuracy, "(0, inf)")
        length = float(flat(self.gradient).norm())
        if not length or self.identically_zero or not math.isfinite(self.variance_per_evaluation):
            return None
        wanted = self.variance_per_evaluation / length**2 / accuracy / accuracy
        return max(1, math.ceil(wanted)) if math.isfinite(wanted) else None

    def plot(self) -> go.Figure:
        """Draw the mean estimate of every entry against the gradient: right ones lie on the diagonal."""
        gradient, bias = flat(self.gradient).cpu().numpy(), flat(self.bias).cpu().numpy()
        error = flat(self.standard_error).cpu().numpy()
        drawing = figure("gradient (reference)", "mean estimate")
        ends = [float(gradient.min()), float(gradient.max())]
        line(drawing, ends, ends, "a right estimator", {"color": GREY, "width": 1, "dash": "dash"}, "")
        drawing.add_scatter(
            x=gradient,
            y=gradient + bias,
            error_y={"type": "data", "array": 2 * error, "thickness": 1},
            mode="markers",
            name="mean estimate +- 2 standard errors",
            marker={"color": color(0), "size": 7},
            hovertemplate="gradient %{x:.4g}, mean estimate %{y:.4g}<extra></extra>",
        )
        legend = {"orientation": "h", "y": -0.2, "yanchor": "top"}
        return drawing.update_layout(height=420, legend=legend)

    def __str__(self) -> str:
        head = "right" if self.fault is None else self.fault
        told = f": {self.reason}" if self.reason else ""
        factor = "" if math.isnan(self.factor) else f" Factor {self.factor:.4g} +- {self.factor_error:.2g},"
        return f"{head}{told}{factor} {self.evaluations:,} evaluations."


def audit(
    estimator: GradientSource,
    objective: Objective,
    x: Point,
    generator: Generator | None = None,
    *,
    sigma: float | None = None,
    distribution: Distribution | None = None,
    budget: int = 100_000_000,
    seconds: float = 10.0,
) -> Audit:
    """Return whether an estimator is right at x: its mean, standard error, value and count of evaluations.

    The mean of repeated estimates is compared with grad F(x), F(x) = E f(x + sigma e). That reference is the derivative
    of `objective.smoothed(sigma)` where there is one; for sigma = 0 differences of f of fourth order; in up to three
    dimensions the mean over stratified samples of (f(x + sigma e) - f(x)) s(e) / sigma, with the score s of q; else the
    mean over independent samples of gradients of f (checked against differences) or, where f jumps, of the same score.
    Its own standard error is part of every test.

    Repetitions are added until the factor m.g / g.g of the mean m is known to be 1 so closely that 1.02 is ruled out,
    or something deviates: that factor, an entry, the reported standard error against the spread, the independence of
    successive estimates. A deviation counts only if new repetitions confirm it. What is wrong is named from the means
    at x and three points around it, which tell a factor from a sign and from a term that is added; the factor at
    another sigma and another number of samples tells a power of sigma from a baseline's own sample.

    What would be seen, where the budget and the time suffice: a factor of 1.02; a value that is off by .03 standard
    deviations of f; standard errors that are off by 15%, going by their mean square over all entries (10% are allowed),
    and that of one entry by a third (25% are allowed). Of a source that `torch.vmap` cannot call many times at once, or
    that takes more than 2,048 numbers in a call, 1,024 standard errors are read instead of 4,096: 20% and two fifths.

    Args:
        estimator: A gradient source.
        objective: f, as estimators take it.
        x: The point.
        generator: From which all random numbers come, on the device of x; None for one with a fixed seed.
        sigma: The scale of the perturbation, >= 0; None for the estimator's attribute `sigma`, 0 if it has none.
        distribution: q; None for that of the estimator, the standard normal if it has none.
        budget: The most evaluations of f in the whole audit, at least 1,000. f is not called beyond it.
        seconds: The time after which f is not called again, > 0; a call that is running then is finished. Where f is so
            slow that the time limits an audit, the same seed need not give the same one.

    Returns:
        The audit. Where neither a deviation nor the absence of a factor of 1.02 could be shown, `fault` is "undecided".

    Raises:
        InvalidArgument: If an argument is outside its range.
        EvaluationFailed: If f raises an error.

    >>> import torch
    >>> from steepest.estimators import ScoreFunction
    >>> def f(x):
    ...     return (x - 1).square().sum(-1)
    >>> audit(ScoreFunction(sigma=0.1, samples=20), f, torch.zeros(2)).fault is None
    True
    """
    if not callable(estimator) or isinstance(estimator, type):
        raise InvalidArgument(
            "estimator must be a gradient source: source(objective, x, generator) -> Estimate",
            got=estimator,
            remedy="Pass for example ScoreFunction(sigma=0.1, samples=50).",
        )
    _check.function("objective", objective)
    space = Space(x)
    if generator is None:
        generator = Generator(space.device).manual_seed(0)
    _check.generator("generator", generator)
    if sigma is not None:
        sigma = _check.in_range("sigma", sigma, "[0, inf)")
    budget = _check.at_least("budget", budget, 1000)
    seconds = _check.in_range("seconds", seconds, "(0, inf]")
    claim = Claim.of(estimator, sigma, distribution)
    subject = Subject(estimator, objective, x, claim, generator, Meter(budget, seconds))
    found = examine(subject, space.flat.double())
    return _result(subject, found, space)


def _result(subject: Subject, found: Finding, space: Space) -> Audit:
    site, comparison = found.site, found.comparison
    reference, repetitions = site.reference, site.repetitions
    length = float(reference.gradient.norm())

    def point(row: Tensor) -> Any:
        return space.point(row.to(space.flat.dtype))

    if comparison is None:  # it could not be called, or f is constant
        bias, error = -reference.gradient, reference.error
        factor, factor_error = (0.0, 0.0) if found.zero else (math.nan, math.nan)
        ratio, value, variance, z = math.nan, math.nan, math.nan, bias / error
    else:
        sums = comparison.sums
        bias, error = repetitions.mean(sums) - reference.gradient, combined_error(sums, reference)
        factor, factor_error = factor_of(sums, reference) if length else (math.nan, math.nan)
        ratio, value, z = math.sqrt(repetitions.error_ratio(sums)[0]), sums.value()[0], comparison.z
        variance = float(sums.variance.sum()) * repetitions.evaluations / max(1, repetitions.calls)
    return Audit(
        fault=found.fault,
        reason=found.reason,
        bias=point(bias),
        z=point(z),
        gradient=point(reference.gradient),
        standard_error=point(error),
        factor=factor,
        factor_error=factor_error,
        error_ratio=ratio,
        value=value,
        reference_value=reference.value,
        variance_per_evaluation=variance,
        identically_zero=found.zero,
        reference=reference.method,
        repetitions=repetitions.calls,
        evaluations=subject.meter.spent,
    )
