"""Baselines of the score function: what is subtracted from a value before it weights a direction."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor

from steepest.errors import InvalidArgument

__all__ = ["BASELINES", "Baseline", "Controlled", "check_baseline", "halves", "least_samples", "weights"]

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


@functools.cache
def halves(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return [1/2, -1/2], for the two members of a pair."""
    with torch.inference_mode(False):
        return torch.tensor([0.5, -0.5], dtype=dtype, device=device)


def weights(values: Tensor, *, antithetic: bool, baseline: Baseline) -> Tensor:
    """Return the weight of each direction's score: value minus baseline, [n]; of pairs half the difference, [n/2].

    The two members of a pair have opposite scores, so that any baseline which does not depend on them cancels. For
    single samples, f_i minus the mean of all others is (f_i - mean) n / (n - 1).
    """
    if antithetic:
        return torch.mv(values.view(2, -1).t(), halves(values.dtype, values.device))
    if baseline == "leave-one-out":
        count = len(values)
        return (values - values.mean()).mul_(count / (count - 1))
    return values


class Controlled:
    """Terms [m, d] whose mean is sigma times the gradient, with a linear control variate.

    As E[(w.e) s] = w for every w (Stein), the terms (f_i - b - w.e_i) s_i + w are unbiased if b and w do not depend on
    sample i. The samples are split into two halves; b (their mean) and w (their gradient, scaled down by the share of
    it that is noise) for each half come from the other one.

    Args:
        weighted: The values f_i [m], or half the differences of pairs.
        noise: The perturbations e_i [m, d].
        score: Their scores s_i [m, d].
        antithetic: Whether they are pairs, of which b is zero.
    """

    def __init__(self, weighted: Tensor, noise: Tensor, score: Tensor, *, antithetic: bool) -> None:
        half = len(weighted) // 2
        self._halves = slice(0, half), slice(half, None)
        self._weighted, self._noise, self._score, self._antithetic = weighted, noise, score, antithetic
        self._slopes = [self._slope(each) for each in self._halves]
        self.terms = torch.empty_like(score)
        for own, (base, slope, _) in zip(self._halves, self._slopes[::-1], strict=True):
            self.terms[own] = (weighted[own] - base - noise[own] @ slope)[:, None] * score[own] + slope

    def _slope(self, part: slice) -> tuple[Tensor | float, Tensor, Tensor]:
        """Return b, w and the factor by which w was scaled down, from one half."""
        base = 0.0 if self._antithetic else self._weighted[part].mean()
        known = (self._weighted[part] - base)[:, None] * self._score[part]
        slope = known.mean(0)
        spread = known.var(0).sum() / len(known)
        factor = (1 - spread / (slope.square().sum() + torch.finfo(slope.dtype).tiny)).clamp(min=0)
        return base, slope * factor, factor

    def error(self) -> Tensor:
        """Return the standard error of the mean of the terms, [d].

        Both halves have a part of their error in common, (I - M_1)(I - M_2) w with the means M of s e' of the halves.
        The variance within the halves has half of it; the infinitesimal jackknife, which also follows each sample
        through the model for the other half, has it twice. Two thirds of the one and a third of the other are right.
        """
        count = len(self._weighted)
        within = jackknife = torch.zeros_like(self._score[0])
        for own, other, (base, _, factor) in zip(self._halves, self._halves[::-1], self._slopes, strict=True):
            size, share = len(self._weighted[own]), len(self._weighted[own]) / count
            rest = len(self._weighted[other]) / count
            centred = self._terms_around_their_mean(own)
            moved = (self._weighted[own] - base)[:, None]
            change = moved * self._score[own]
            change = change - change.mean(0)
            if not self._antithetic:
                change = change - moved * self._score[own].mean(0)
            change = change * factor
            through = change - _product(change, self._noise[other].t(), self._score[other]) / len(self._weighted[other])
            if not self._antithetic:
                through = through - moved * self._score[other].mean(0)
            scale = 1 / (size * (size - 1))
            within = within + scale * (share * centred).square().sum(0)
            jackknife = jackknife + scale * (share * centred + rest * through).square().sum(0)
        return ((2 * within + jackknife) / 3).sqrt()

    def _terms_around_their_mean(self, part: slice) -> Tensor:
        return self.terms[part] - self.terms[part].mean(0)


def _product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return a b c for a [n, d], b [d, m], c [m, d], in the cheaper order."""
    return a @ (b @ c) if a.shape[1] < b.shape[1] else (a @ b) @ c


def least_samples(baseline: Baseline, *, antithetic: bool) -> int:
    """Return the fewest samples with which a baseline can be computed."""
    single = {None: 1, "leave-one-out": 1 if antithetic else 2, "control-variate": 4}[baseline]
    return math.prod((2, single)) if antithetic else single
