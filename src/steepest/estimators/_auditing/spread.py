"""What is wrong with a standard error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steepest.estimators._auditing.comparing import ERROR_RATIO, Comparison
from steepest.estimators._auditing.samples import Samples
from steepest.estimators._auditing.site import Site, Subject
from steepest.estimators._auditing.slopes import slopes

__all__ = ["named_spread"]


def named_spread(subject: Subject, site: Site, samples: Samples, comparison: Comparison) -> tuple[str, str]:
    """Return the name of a wrong standard error, and a sentence."""
    ratio, error = site.repetitions.error_ratio(comparison.sums)
    low, high = ERROR_RATIO
    if low <= ratio <= high:
        ratios = site.repetitions.entry_ratios(comparison.sums)[0]
        worst = int(ratios.clamp(min=1e-300).log().nan_to_num(0.0).abs().argmax())
        entry = math.sqrt(float(ratios[worst]))
        return "wrong standard error", (
            f"The reported standard error of entry {worst} is {entry:.3g} times the spread of its repeated estimates, "
            f"although those of all entries together are {math.sqrt(ratio):.3g} times theirs."
        )
    told = f"Reported standard errors are {math.sqrt(ratio):.3g} times the spread of repeated estimates"
    if samples.paired:
        halved = abs(ratio - 0.5) < min(0.12, 0.06 + 3 * error)
        if halved or _counted_apart(subject, site, samples):
            return "antithetic pairs counted as independent", (
                f"{told}, as if the two members of an antithetic pair were independent: the pairs have to be counted."
            )
    return "wrong standard error", f"{told}."


def _counted_apart(subject: Subject, site: Site, samples: Samples) -> bool:
    """Return whether the reported errors are those of the members of pairs as independent samples."""
    claim = subject.claim
    if claim.sigma == 0:
        return False
    ratios: dict[str, list[float]] = {"plain": [], "centred": [], "slopes": []}
    for rows, values, errors in zip(samples.rows, samples.values, samples.errors, strict=True):
        reported = float(errors.square().sum())
        if not reported > 0:
            return False
        score = _score(subject, rows / claim.sigma) / claim.sigma
        ratios["plain"].append(_squared_error(values[:, None] * score) / reported)
        ratios["centred"].append(_squared_error((values - values.mean())[:, None] * score) / reported)
        at = (site.row + rows).to(subject.exact.flat.dtype)
        graph = slopes(subject.objective, subject.exact, at)
        ratios["slopes"].append(_squared_error(graph[1].double()) / reported if graph is not None else 0.0)
    # By chance the mean is near 1 too, but not each of them.
    return any(
        abs(torch.tensor(each).mean() - 1) < 0.08 and float(torch.tensor(each).std()) < 0.05 for each in ratios.values()
    )


def _score(subject: Subject, noise: Tensor) -> Tensor:
    return subject.claim.perturbation.score(noise)


def _squared_error(terms: Tensor) -> float:
    return float(terms.var(0).sum()) / len(terms)
