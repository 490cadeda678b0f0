"""Baselines of the score function: what is subtracted from a value before it weights a direction."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from steepest.errors import InvalidArgument

__all__ = ["BASELINES", "Baseline", "check_baseline", "controlled", "weights"]

Baseline = Literal["leave-one-out", "control-variate"] | None
"""What a score function subtracts from each value."""

BASELINES = (None, "leave-one-out", "control-variate")


def check_baseline(baseline: Any) -> Baseline:
    """Return `baseline`, checked."""
    if baseline is not None and (not isinstance(baseline, str) or baseline not in BASELINES):
        raise InvalidArgument(
            "baseline must be None, leave-one-out or control-variate", got=baseline, remedy="Pass one of these."
        )
    return baseline


def weights(values: Tensor, *, antithetic: bool, baseline: Baseline) -> Tensor:
    """Return the weight of each direction's score: value minus baseline, [n]; of pairs half the difference, [n/2].

    The two members of a pair have opposite scores, so that any baseline which does not depend on them cancels. For
    single samples, f_i minus the mean of all others is (f_i - mean) n / (n - 1).
    """
    if antithetic:
        first, second = values.view(2, -1).unbind()
        return (first - second).mul_(0.5)
    if baseline == "leave-one-out":
        count = len(values)
        return (values - values.mean()).mul_(count / (count - 1))
    return values


def controlled(weighted: Tensor, noise: Tensor, score: Tensor, *, antithetic: bool) -> Tensor:
    """Return terms [m, d] whose mean is sigma times the gradient, with a linear control variate.

    As E[(w.e) s] = w for every w (Stein), the terms (f_i - b - w.e_i) s_i + w are unbiased if b and w do not depend on
    sample i. The samples are split into two halves; b (their mean) and w (their gradient, scaled down by the share of
    it that is noise) for each half come from the other one.

    Args:
        weighted: The values f_i [m], or half the differences of pairs.
        noise: The perturbations e_i [m, d].
        score: Their scores s_i [m, d].
        antithetic: Whether they are pairs.
    """
    half = len(weighted) // 2
    parts = slice(0, half), slice(half, None)
    terms = torch.empty_like(score)
    for own, other in (parts, parts[::-1]):
        base = 0.0 if antithetic else weighted[other].mean()
        known = (weighted[other] - base)[:, None] * score[other]
        slope = known.mean(0)
        spread = known.var(0).sum() / len(known)
        slope = slope * (1 - spread / (slope.square().sum() + torch.finfo(slope.dtype).tiny)).clamp(min=0)
        terms[own] = (weighted[own] - base - noise[own] @ slope)[:, None] * score[own] + slope
    return terms


def least_samples(baseline: Baseline, *, antithetic: bool) -> int:
    """Return the fewest samples with which a baseline can be computed."""
    single = {None: 1, "leave-one-out": 1 if antithetic else 2, "control-variate": 4}[baseline]
    return math.prod((2, single)) if antithetic else single
