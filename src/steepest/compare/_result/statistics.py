"""Paired intervals, and multiple testing over many of them.

scipy is imported where it is used: worker processes import this package too, and the import costs half a second.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from steepest._check import in_range, instance
from steepest.compare._design import Cell
from steepest.errors import InvalidArgument

__all__ = ["ALPHA", "Interval", "Pair", "compare_pairs", "is_seedless", "mean_interval", "more_seeds"]

ALPHA = 0.05
"""The family-wise error rate: an upper bound on the chance that a report holds any wrong "beats"."""

Floats = Sequence[float] | NDArray[np.float64]
Measure = Literal["loss", "steps"]
_RESAMPLES = 9999
_POWER = 0.8
_MOST_SEEDS = 1000
_RESOLUTION = 1e-6
"""Relative differences of losses below this are rounding errors: sums in float32 are no more accurate."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval at a level of 1 - alpha."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """The comparison of two cells on one measure, paired by seed.

    Attributes:
        a: The first cell.
        b: The second cell.
        measure: "loss" (final validation loss) or "steps" (to the target).
        interval: The interval of the mean (loss) or median (steps) of a - b over the seeds, at level 1 - alpha. A
            missed target counts as infinitely many steps.
        alpha: The significance level that Holm's procedure assigns to this pair.
        p: The p-value: the smallest alpha at which the interval excludes 0.
        better: The cell that the interval shows to be better; None if undecided.
        more_seeds: For an undecided pair, how many more seeds would settle it with power 80%, if the difference and
            its spread stay as they are; None if more than 1,000 or if it is unknown.
        seedless: Whether the final losses of neither cell depend on the seed: nothing is decided then, as any
            difference at all would look certain.
    """

    a: Cell
    b: Cell
    measure: Measure
    interval: Interval
    alpha: float
    p: float
    better: Cell | None
    more_seeds: int | None
    seedless: bool = False


class _Location(ABC):
    """The location of paired differences: an estimate, a p-value, and an interval at any level.

    The interval is the hull of the percentile bootstrap's and of the classical small-sample one. The bootstrap alone
    is too narrow for ten seeds: an optimizer is called different from itself in 9-21% of all trials with scipy's
    BCa and in 9-11% with its percentile interval, at a nominal 5% (benchmarks/results/statistics.md). A subclass
    must define its measure, and implement the statistic and the classical test.
    """

    measure: ClassVar[Measure]

    def __init__(self, values: Floats) -> None:
        self.values: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
        # A number far beyond the finite ones stands for infinity while medians are taken: inf - inf is no number.
        self._largest = max(1.0, float(np.abs(self.values[np.isfinite(self.values)]).max(initial=0.0)))
        sample = np.clip(self.values, -1e6 * self._largest, 1e6 * self._largest)
        self.estimate = float(self._with_infinities(self.statistic(sample)))
        from scipy import stats

        bootstrap = stats.bootstrap(
            (sample,), self.statistic, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        )
        self._resampled = self._with_infinities(bootstrap.bootstrap_distribution)

    def _with_infinities(self, location: Any) -> NDArray[np.float64]:
        return np.where(np.abs(location) > 2 * self._largest, np.copysign(np.inf, location), location)

    @property
    def p(self) -> float:
        """The smallest alpha at which the interval excludes 0."""
        below, above = float(np.mean(self._resampled <= 0)), float(np.mean(self._resampled >= 0))
        return min(1.0, max(2 * min(below, above), self.classical_p()))

    def interval(self, alpha: float) -> Interval:
        """The hull of both intervals at level 1 - alpha."""
        low, high = self.classical_interval(alpha)
        lower, upper = np.quantile(self._resampled, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
        return Interval(self.estimate, min(low, float(lower)), max(high, float(upper)))

    @abstractmethod
    def statistic(self, sample: NDArray[np.float64], axis: int = -1) -> Any:
        """Return the location of samples along an axis."""

    @abstractmethod
    def classical_p(self) -> float:
        """Return the p-value of the classical test that the location is 0."""

    @abstractmethod
    def classical_interval(self, alpha: float) -> tuple[float, float]:
        """Return the interval of the classical test at level 1 - alpha."""


class _Mean(_Location):
    """The mean, with Student's t."""

    measure = "loss"

    def statistic(self, sample: NDArray[np.float64], axis: int = -1) -> Any:
        return np.mean(sample, axis=axis)

    def classical_p(self) -> float:
        from scipy import stats

        if np.all(self.values == self.values[0]):  # no spread to divide by
            return float(self.estimate == 0)
        return float(2 * stats.t.sf(abs(self.estimate) / float(stats.sem(self.values)), len(self.values) - 1))

    def classical_interval(self, alpha: float) -> tuple[float, float]:
        from scipy import stats

        half = float(stats.t.ppf(1 - alpha / 2, len(self.values) - 1) * stats.sem(self.values))
        return self.estimate - half, self.estimate + half


class _Median(_Location):
    """The median, with the sign test: its interval runs between order statistics."""

    measure = "steps"

    def statistic(self, sample: NDArray[np.float64], axis: int = -1) -> Any:
        return np.median(sample, axis=axis)

    def classical_p(self) -> float:
        from scipy import stats

        # Ties count against both sides, as they do in the order statistics.
        fewer = min(int(np.sum(self.values <= 0)), int(np.sum(self.values >= 0)))
        return min(1.0, float(2 * stats.binom.cdf(fewer, len(self.values), 0.5)))

    def classical_interval(self, alpha: float) -> tuple[float, float]:
        from scipy import stats

        # The k-th smallest and largest value bound the median with error 2 P(Bin(n, 1/2) < k).
        n = len(self.values)
        k = int(np.sum(2 * stats.binom.cdf(np.arange((n + 1) // 2), n, 0.5) <= alpha))
        ordered = np.sort(self.values)
        return (float(ordered[k - 1]), float(ordered[n - k])) if k else (-math.inf, math.inf)


def mean_interval(values: Floats) -> Interval:
    """Return the mean of at least two finite values with its 95% interval.

    Raises:
        InvalidArgument: If there are fewer, or one is not finite.

    >>> mean_interval([1.0, 1.0, 1.0])
    Interval(estimate=1.0, low=1.0, high=1.0)
    """
    return _Mean(_sample("values", values)).interval(ALPHA)


def is_seedless(losses: Floats) -> bool:
    """Return whether the losses of several seeds agree to a millionth.

    >>> is_seedless([0.5, 0.5000001, 0.5]), is_seedless([0.5, 0.51, 0.5])
    (True, False)
    """
    values = np.asarray(losses, dtype=np.float64)
    return bool(np.ptp(values) <= _RESOLUTION * np.abs(values).max())


def compare_pairs(losses: Mapping[Cell, Floats], steps: Mapping[Cell, Floats]) -> list[Pair]:
    """Compare all pairs of cells on both measures, with a bound on the family-wise error rate.

    Holm's procedure over all pairs and both measures: the m-th smallest of M p-values is tested at level
    ALPHA / (M - m + 1), and the first that exceeds its level ends the procedure. The chance that any "better" is wrong
    is then at most ALPHA, as far as the seeds are representative of others. That holds for alternatives with the same
    distribution (their differences are symmetric); it cannot hold for a rare failure that none of the seeds has shown:
    where one run in ten ruins the mean, ten seeds miss it in a third of all trials.

    Where the losses of neither cell depend on the seed, nothing is decided (see `Pair.seedless`). Losses whose relative
    difference is below a millionth count as equal.

    Args:
        losses: Final validation losses by cell, one per seed in the same order; all finite.
        steps: Steps to the target by cell, one per seed in the same order; infinite where the target was missed.

    Returns:
        The pairs, first those on the loss, then those on the steps, in the order of the cells.

    Raises:
        InvalidArgument: If losses and steps have different cells, a cell has fewer than two seeds or not as many as
            the first, a loss is not finite, or a number of steps is nan or negative.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979), 65-70.
    """
    _check_cells(losses, steps)
    fixed = {cell for cell, values in losses.items() if is_seedless(values)}
    pairs = list(combinations(losses, 2))
    seedless = [a in fixed and b in fixed for a, b in pairs] * 2
    of_losses = [_Mean(_differences(losses[a], losses[b], _RESOLUTION)) for a, b in pairs]
    of_steps = [_Median(_differences(steps[a], steps[b])) for a, b in pairs]
    locations = [*of_losses, *of_steps]
    levels = _holm([1.0 if fixed else each.p for each, fixed in zip(locations, seedless, strict=True)])
    return [
        _decide(a, b, location, level, without)
        for (a, b), location, level, without in zip(pairs * 2, locations, levels, seedless, strict=True)
    ]


def _differences(a: Floats, b: Floats, resolution: float = 0.0) -> list[float]:
    """Return a - b, 0 where it is within the resolution; two missed targets (infinity minus infinity) are a tie."""
    return [
        0.0 if x == y or (resolution and abs(x - y) <= resolution * max(abs(x), abs(y))) else x - y
        for x, y in zip(a, b, strict=True)
    ]


def _check_cells(losses: Mapping[Cell, Floats], steps: Mapping[Cell, Floats]) -> None:
    for name, given in (("losses", losses), ("steps", steps)):
        instance(name, given, Mapping, "a mapping from cells to numbers")
    if list(losses) != list(steps):
        raise InvalidArgument("losses and steps must be of the same cells", got=[*losses, *steps])
    lengths = {len(_sample("losses", values)) for values in losses.values()}
    for values in steps.values():
        found = np.asarray(values, dtype=np.float64)
        lengths.add(len(found))
        if np.isnan(found).any() or (found < 0).any():
            raise InvalidArgument("steps must be numbers in [0, inf]", got=list(values), remedy="A miss is infinite.")
    if len(lengths) > 1:
        raise InvalidArgument("every cell must have one loss and one number of steps per seed", got=sorted(lengths))


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


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return the level of each hypothesis; those after the first that fails share its level."""
    levels = [0.0] * len(p_values)
    stopped = None
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        level = stopped or ALPHA / (len(p_values) - rank)
        levels[i] = level
        if p_values[i] > level:
            stopped = level
    return levels


def _decide(a: Cell, b: Cell, location: _Location, alpha: float, seedless: bool) -> Pair:
    measure = location.measure
    interval = location.interval(alpha)
    if seedless:
        return Pair(a, b, measure, interval, alpha, 1.0, None, None, seedless=True)
    p = location.p
    better = None
    if p <= alpha and not interval.low <= 0 <= interval.high:
        better = a if location.estimate < 0 else b
    needed = None
    if better is None and measure == "loss":
        needed = more_seeds(location.values, alpha)
    return Pair(a, b, measure, interval, alpha, p, better, needed)


def more_seeds(differences: Floats, alpha: float) -> int | None:
    """Return how many more seeds a paired t interval needs to exclude 0 with power 80%.

    That is the smallest n with |mean| sqrt(n) / s >= t(1 - alpha/2, n-1) + t(0.8, n-1), minus the number of given
    seeds; at least 1; None if it is more than 1,000.

    Raises:
        InvalidArgument: If there are fewer than two differences, one is not finite, or alpha is not in (0, 1).

    >>> more_seeds([1.0, -0.5, 1.5, 0.5, -0.2], alpha=0.05)
    23
    """
    from scipy import stats

    values = _sample("differences", differences)
    alpha = in_range("alpha", alpha, "(0, 1)")
    n, mean, spread = len(values), abs(float(np.mean(values))), float(np.std(values, ddof=1))
    if mean == 0:
        return None
    sizes = np.arange(n + 1, n + _MOST_SEEDS + 1)
    needed = stats.t.ppf(1 - alpha / 2, sizes - 1) + stats.t.ppf(_POWER, sizes - 1)
    enough = mean * np.sqrt(sizes) >= needed * spread
    return int(np.argmax(enough)) + 1 if enough.any() else None
