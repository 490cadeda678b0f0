"""What kind of error a biased estimator makes, from its means at several points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Evidence", "Shape", "shape_of"]

Kind = Literal["sign", "factor", "factors", "term", "other"]


@dataclass(frozen=True)
class Evidence:
    """The mean of an estimator at a point, beside the gradient.

    Attributes:
        gradient: The reference, [d].
        mean: The mean estimate, [d].
        error: The standard error of their difference, [d].
    """

    gradient: Tensor
    mean: Tensor
    error: Tensor

    @property
    def bias(self) -> Tensor:
        """The mean minus the reference, [d]."""
        return self.mean - self.gradient

    def factor(self) -> tuple[float, float]:
        """Return the best a in mean = a gradient, and its standard error."""
        weight = self.error.square().clamp(min=1e-300).reciprocal()
        power = float((weight * self.gradient.square()).sum())
        if not power > 0:
            return math.nan, math.inf
        return float((weight * self.gradient * self.mean).sum()) / power, power**-0.5

    def misfit(self, predicted: Tensor) -> float:
        """Return the sum of squared deviations from a prediction, each in standard errors."""
        return float(((self.mean - predicted) / self.error.clamp(min=1e-150)).square().sum())


@dataclass(frozen=True)
class Shape:
    """The form of a bias.

    Attributes:
        kind: "sign" of some or all entries; one "factor" at all points; "factors" that differ from point to point; a
            "term" that is added, the same one at all points; or "other", one that depends on the point.
        factor: The factor.
        error: Its standard error.
        entries: Entries whose sign is flipped.
    """

    kind: Kind
    factor: float
    error: float
    entries: tuple[int, ...] = ()


def shape_of(given: Sequence[Evidence]) -> Shape:
    """Return the form that explains the means best, with a price for each of its free numbers (BIC).

    mean_j = S g_j, with signs S, has none; a g_j one; a_j g_j one per point; g_j + b has d; with as many numbers as
    there are means, everything is explained.
    A form need hold to 2% of a bias only, as finite differences have errors of their own.
    """
    points = [replace(each, error=(each.error.square() + (0.02 * each.bias.norm()) ** 2).sqrt()) for each in given]
    size = points[0].gradient.numel()
    price = math.log(max(2, size * len(points)))
    common, error = _common(points)
    signs = _signs(points)
    term, weights = torch.zeros_like(points[0].mean), torch.zeros_like(points[0].mean)
    for each in points:
        weight = each.error.square().clamp(min=1e-300).reciprocal()
        term += weight * each.bias
        weights += weight
    term = term / weights
    scores: dict[Kind, float] = {
        "factor": sum(each.misfit(common * each.gradient) for each in points) + price,
        "term": sum(each.misfit(each.gradient + term) for each in points) + size * price,
        "other": size * len(points) * price,
    }
    if len(points) > 1 and size > 1:
        own = [each.factor()[0] for each in points]
        scores["factors"] = len(points) * price + sum(
            each.misfit(0 * each.gradient if math.isnan(factor) else factor * each.gradient)
            for each, factor in zip(points, own, strict=True)
        )
    if bool((signs < 0).any()):
        scores["sign"] = sum(each.misfit(signs * each.gradient) for each in points)
    # A few standard errors in excess of what normal noise gives must not look like a new form.
    best = min(scores, key=lambda kind: scores[kind])
    if scores["factor"] < 4 * size * len(points) + price and best != "sign":
        best = "factor" if scores["factor"] < scores[best] + 4 * price else best
    if best == "factors":  # the same one, but for a small error that depends on the point
        own = [each.factor()[0] for each in points]
        if max(own) - min(own) < 0.03 * abs(common):
            best = "factor"
    entries = tuple(int(index) for index in (signs < 0).nonzero().flatten())
    return Shape(best, common, error, entries if best == "sign" else ())


def _common(points: Sequence[Evidence]) -> tuple[float, float]:
    top, power = 0.0, 0.0
    for each in points:
        factor, error = each.factor()
        if math.isfinite(error):
            top, power = top + factor / error**2, power + error**-2
    return (top / power, power**-0.5) if power else (math.nan, math.inf)


def _signs(points: Sequence[Evidence]) -> Tensor:
    """Return -1 for every entry that agrees better with minus the reference at all points, else 1."""
    votes = torch.zeros_like(points[0].gradient)
    for each in points:
        votes += ((each.mean - each.gradient).square() - (each.mean + each.gradient).square()) / each.error.square()
    return torch.where(votes > 9, -1.0, 1.0).to(votes)
