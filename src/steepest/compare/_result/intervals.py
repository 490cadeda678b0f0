"""Intervals of single means, and how many seeds would settle a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest._check import at_least, in_range
from steepest.compare._plan import LOOKS
from steepest.compare._sequential import ALPHA
from steepest.errors import InvalidArgument

__all__ = ["Interval", "bound_after", "mean_interval", "seeds_to_settle"]

_POWER = 0.8
_MOST_SEEDS = 1000

Floats = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval at a level of 1 - alpha."""

    estimate: float
    low: float
    high: float


def mean_interval(values: Floats, *, alpha: float = ALPHA) -> Interval:
    """Return the mean of at least two finite values with its interval: mean +- t(1 - alpha/2, n - 1) s / sqrt(n).

    Raises:
        InvalidArgument: If there are fewer, one is not finite, or alpha is not in (0, 1).

    >>> mean_interval([1.0, 1.0, 1.0])
    Interval(estimate=1.0, low=1.0, high=1.0)
    """
    from scipy.special import stdtrit

    sample, alpha = _sample("values", values), in_range("alpha", alpha, "(0, 1)")
    n, mean = len(sample), float(sample.mean())
    half = float(stdtrit(n - 1, 1 - alpha / 2)) * float(sample.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def seeds_to_settle(differences: Floats, alternatives: int, *, margin: float = 0.0) -> int | None:
    """Return how many seeds in all would show that the mean of the differences is above -margin, with power 80%.

    It is the smallest n, at most 1,000, that is a look of a sequential plan of K alternatives, with L looks, for which

        (mean + margin) sqrt(n) / s >= t(1 - 0.05 / (L (K - 1)), n - 1) + t(0.8, n - 1),

    if the mean and the spread s stay as they are. None if there is none.

    Args:
        differences: Values of an alternative minus those of the choice, by seed; at least two.
        alternatives: K, 2 to 10^9.
        margin: The difference that does not matter, >= 0.

    Raises:
        InvalidArgument: If there are fewer than two differences, or an argument is outside its range.

    >>> seeds_to_settle([1.0, -0.5, 1.5, 0.5, -0.2], 2)
    40
    """
    from scipy.special import stdtrit

    values = _sample("differences", differences)
    at_least("alternatives", alternatives, 2, most=10**9)
    shift = float(values.mean()) + in_range("margin", margin, "[0, inf)")
    spread = float(values.std(ddof=1))
    if shift <= 0:
        return None
    sizes = np.array([*LOOKS, *range(100, _MOST_SEEDS + 1, 50)])
    critical = stdtrit(sizes - 1, 1 - _level(sizes, alternatives)) + stdtrit(sizes - 1, _POWER)
    enough = (sizes > len(values)) & (shift * np.sqrt(sizes) >= critical * spread)
    return int(sizes[np.argmax(enough)]) if enough.any() else None


def bound_after(differences: Floats, alternatives: int, seeds: int) -> float:
    """Return the bound on the negative mean of differences after more seeds, if mean and spread stay as they are."""
    from scipy.special import stdtrit

    values = _sample("differences", differences)
    critical = float(stdtrit(seeds - 1, 1 - _level(np.array([seeds]), alternatives))[0])
    return critical * float(values.std(ddof=1)) / math.sqrt(seeds) - float(values.mean())


def _level(sizes: NDArray[np.int64], alternatives: int) -> NDArray[np.float64]:
    """Return the level of one bound in a plan whose last look is after so many seeds: 0.05 / (L (K - 1))."""
    looks = 1 + np.searchsorted(LOOKS, sizes)
    return ALPHA / (looks * (alternatives - 1))


def _sample(name: str, values: Any) -> NDArray[np.float64]:
    """Return values as an array.

    Raises:
        InvalidArgument: If they are no sequence of at least two finite numbers.
    """
    try:
        given = np.asarray(values)
        sample = np.empty(0) if np.iscomplexobj(given) else np.asarray(given, dtype=np.float64)
    except Exception:  # an object that says it is an array may raise anything
        sample = np.empty(0)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise InvalidArgument(
            f"{name} must be at least two finite numbers",
            got=values,
            remedy="Leave out diverged runs, or replace them by a bound.",
        )
    return sample
