"""What is wrong with a standard error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steepest.estimators._auditing.comparing import Comparison
from steepest.estimators._auditing.reference import slopes
from steepest.estimators._auditing.samples import Samples
from steepest.estimators._auditing.site import Site, Subject

__all__ = ["named_spread"]


def named_spread(subject: Subject, site: Site, samples: Samples, comparison: Comparison) -> tuple[str, str]:
    """Return the name of a wrong standard error, and a sentence."""
    ratio, error = site.repetitions.error_ratio(comparison.sums)
    told = f"Reported standard errors are {math.sqrt(ratio):.3g} times the spread of repeated estimates"
    if samples.paired:
        halved = abs(ratio - 0.5) < 0.06 + 3 * error
        if halved or _counted_apart(subject, site, samples):
            return "antithetic pairs counted as independent", (
                f"{told}, as if the two members of an antithetic pair were independent: the pairs have to be counted."
            )
    return "wrong standard error", f"{told}."


def _counted_apart(subject: Subject, site: Site, samples: Samples) -> bool:
    """Return whether the reported errors are those of the members of pairs as independent samples."""
    claim = subject.claim
    reported = torch.stack(samples.errors).square().sum().item()
    if claim.sigma == 0 or not reported > 0:
        return False
    forms = {"plain": 0.0, "centred": 0.0, "slopes": 0.0}
    for rows, values in zip(samples.rows, samples.values, strict=True):
        score = _score(subject, rows / claim.sigma) / claim.sigma
        forms["plain"] += _squared_error(values[:, None] * score)
        forms["centred"] += _squared_error((values - values.mean())[:, None] * score)
        at = (site.row + rows).to(subject.exact.flat.dtype)
        graph = slopes(subject.objective, subject.exact, at)
        forms["slopes"] += _squared_error(graph[1].double()) if graph is not None else 0.0
    return any(abs(form / reported - 1) < 0.08 for form in forms.values())


def _score(subject: Subject, noise: Tensor) -> Tensor:
    return subject.claim.perturbation.score(noise)


def _squared_error(terms: Tensor) -> float:
    return float(terms.var(0).sum()) / len(terms)
