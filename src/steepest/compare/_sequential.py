"""The statistics of a trial: looks at paired seeds, eliminations, and a bound on the regret of the choice.

scipy is imported where it is used: worker processes import this package too, and the import costs half a second.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from steepest._check import in_range, instance
from steepest.compare._plan import Margin, Sequential
from steepest.errors import InvalidArgument

__all__ = ["ALPHA", "Analysis", "Difference", "analyse", "is_seedless"]

ALPHA = 0.05
"""An upper bound on the chance that the statements of one plan hold any wrong one."""

_SILENT_BELOW = 20  # seeds: with fewer, a pair with fewer than three distinct differences says nothing
_RESOLUTION = 1e-6  # relative differences below this are rounding errors: sums in float32 are no more accurate

Array = NDArray[np.float64]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Difference(Generic[K]):
    """The difference between the means of two alternatives, paired by seed; smaller values are better.

    Attributes:
        a: The first alternative.
        b: The second alternative.
        seeds: The number of common seeds at the last look at both.
        estimate: mean(a) - mean(b) over these seeds.
        low: The lower end of its interval. The intervals of all pairs at all looks hold together with probability 95%.
        high: The upper end.
        p: The p-value, over all looks and after Holm's correction over all pairs.
        better: The alternative that beats the other; None if undecided.
        seedless: Whether the values of neither depend on the seed, so that any difference would look certain.
    """

    a: K
    b: K
    seeds: int
    estimate: float
    low: float
    high: float
    p: float
    better: K | None
    seedless: bool = False


@dataclass(frozen=True, kw_only=True)
class Analysis(Generic[K]):
    """What the completed looks at the values of several alternatives allow; smaller values are better.

    Attributes:
        look: The number of seeds at the last completed look; 0 before the first.
        seeds: By alternative, the number of seeds at its last look.
        means: By alternative, the mean of its values over these seeds.
        eliminated: By alternative that another one has beaten: the number of seeds at that look.
        settled: By alternative that is the same as the choice within the margin and got no more seeds for that: the
            number of seeds at that look.
        choice: The alternative with the lowest mean among those that are left; None before the first look.
        regret: With probability 95%, the choice is at most this much worse than the best; infinite if unknown.
        margin: The difference that does not matter at the last look, 0 for none.
        same: The alternatives whose difference from the choice is within the margin.
        differences: All pairs.
        upper: By pair (a, b): the bound on mean(a) - mean(b) from above that the regret rests on.
        needed: The alternatives that run next; empty if the trial is finished.
        next_look: The number of seeds until which they run; 0 if the trial is finished.
    """

    look: int
    seeds: Mapping[K, int]
    means: Mapping[K, float]
    eliminated: Mapping[K, int]
    settled: Mapping[K, int]
    choice: K | None
    regret: float
    margin: float
    same: tuple[K, ...]
    differences: tuple[Difference[K], ...]
    upper: Mapping[tuple[K, K], float]
    needed: tuple[K, ...]
    next_look: int


def analyse(
    values: Mapping[K, Sequence[float]], plan: Sequential, *, worst: float | None = None, alpha: float = ALPHA
) -> Analysis[K]:
    """Look at the values of several alternatives as a sequential plan says.

    With K alternatives and L looks, D = x_i - x_k at n common seeds, its mean and its standard error se:

    - U_ik = mean + t(1 - alpha / (L (K - 1)), n - 1) se bounds mean(i) - mean(k) from above; its smallest value over
      the looks counts. i is eliminated when some k that is left has U_ki < 0.
    - The choice A has the lowest mean of those that are left, and the regret max(0, max_k U_Ak).
    - k is the same as A within m if U_Ak < m and U_kA < m.
    - k beats i if Holm's procedure over the K (K - 1) / 2 pairs rejects q = min over looks of min(1, L p), with p of
      the two-sided t-test.

    A pair says nothing where neither depends on the seed (to a millionth), or where fewer than three of fewer than 20
    differences are distinct. Relative differences below a millionth count as 0.

    Args:
        values: By alternative, one value per seed, in the same order of seeds for all; all finite; smaller is better.
            An eliminated alternative may have fewer.
        plan: When to look and when to stop.
        worst: The value of a diverged run; where all that is left has diverged, the trial stops.
        alpha: The bound on the chance of any wrong statement, in (0, 1).

    Returns:
        What the completed looks allow, and what to run next.

    Raises:
        InvalidArgument: If there is no alternative, or a value is not finite.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979), 65-70;
    simulated error rates are in benchmarks/results/statistics.md.
    """
    instance("plan", plan, Sequential, "a Sequential")
    alpha = in_range("alpha", alpha, "(0, 1)")
    keys = list(instance("values", values, Mapping, "a mapping from alternatives to numbers"))
    if not keys:
        raise InvalidArgument("there must be at least one alternative", got=0, remedy="Pass values of two or more.")
    columns = [_finite(key, values[key]) for key in keys]
    state = _State(len(keys), plan, alpha)
    for n in plan.looks:
        if any(len(columns[i]) < n for i in state.running):
            return state.result(keys, columns, n)
        state.look(n, columns)
        if state.is_finished(n, columns, worst):
            break
    return state.result(keys, columns, 0)


class _State:
    """What is known after some looks, by the index of alternatives."""

    def __init__(self, count: int, plan: Sequential, alpha: float) -> None:
        self.plan, self.alpha, self.count = plan, alpha, count
        self.pairs = count * (count - 1) // 2
        self.running = list(range(count))
        self.eliminated: dict[int, int] = {}
        self.settled: dict[int, int] = {}
        self.upper = np.full((count, count), np.inf)
        self.high = np.full((count, count), np.inf)
        self.q = np.ones((count, count))
        self.sign = np.zeros((count, count))
        self.estimate = np.full((count, count), np.nan)
        self.common = np.zeros((count, count), dtype=int)
        self.seedless = np.zeros((count, count), dtype=bool)
        self.seen = np.zeros(count, dtype=int)
        self.choice: int | None = None
        self.margin = 0.0

    def look(self, n: int, columns: Sequence[Array]) -> None:
        """Look at the first n seeds of all that run."""
        from scipy.special import stdtr, stdtrit

        running = np.array(self.running)
        self.seen[running] = n
        rows = np.stack([columns[i][:n] for i in self.running])
        looks = len(self.plan.looks)
        if self.count > 1:
            differences = _differences(rows)
            mean = differences.mean(axis=-1)
            error = differences.std(axis=-1, ddof=1) / math.sqrt(n)
            fixed = np.array([is_seedless(row) for row in rows])
            seedless = fixed[:, None] & fixed[None, :]
            silent = seedless | _few_distinct(differences, n)
            with np.errstate(divide="ignore", invalid="ignore"):
                p = np.where(error > 0, 2 * stdtr(n - 1, -np.abs(mean) / error), (mean == 0).astype(float))
            p = np.minimum(1.0, looks * np.where(silent, 1.0, p))
            here = np.ix_(running, running)
            one_sided = stdtrit(n - 1, 1 - self.alpha / (looks * (self.count - 1)))
            two_sided = stdtrit(n - 1, 1 - self.alpha / (2 * looks * self.pairs))
            self.upper[here] = np.minimum(self.upper[here], np.where(silent, np.inf, mean + one_sided * error))
            self.high[here] = np.minimum(self.high[here], np.where(silent, np.inf, mean + two_sided * error))
            self.sign[here] = np.where(p < self.q[here], np.sign(mean), self.sign[here])
            self.q[here] = np.minimum(self.q[here], p)
            self.estimate[here], self.common[here], self.seedless[here] = mean, n, seedless
            for i in running:
                if any(self.upper[k, i] < 0 for k in running if k != i):
                    self.eliminated[int(i)] = n
        self.running = [i for i in self.running if i not in self.eliminated]
        means = {i: float(columns[i][:n].mean()) for i in self.running}
        self.choice = choice = min(means, key=lambda i: means[i])
        if self.plan.margin is not None:
            assert isinstance(self.plan.margin, Margin)
            error_of_mean = float(columns[choice][:n].std(ddof=1)) / math.sqrt(n)
            self.margin = self.plan.margin.at(means[choice], error_of_mean)
        if self.plan.until == "same":
            self.settled.update({i: n for i in self.same() if i in self.running})
            self.running = [i for i in self.running if i not in self.settled]

    def left(self) -> list[int]:
        """Return all that is not eliminated, except the choice."""
        return [i for i in range(self.count) if i not in self.eliminated and i != self.choice]

    def regret(self) -> float:
        if self.choice is None:
            return math.inf
        return max((0.0, *(float(self.upper[self.choice, k]) for k in self.left())))

    def same(self) -> list[int]:
        a, m = self.choice, self.margin
        return [k for k in self.left() if a is not None and self.upper[a, k] < m and self.upper[k, a] < m]

    def is_finished(self, n: int, columns: Sequence[Array], worst: float | None) -> bool:
        left = self.left()
        rows = [columns[i][:n] for i in self.running]
        if worst is not None and all((row == worst).all() for row in rows):
            return True
        if all(is_seedless(row) for row in rows) and not self.settled:
            return True
        if self.plan.until == "same":
            return len(self.same()) == len(left)
        return self.regret() <= self.margin

    def result(self, keys: Sequence[Any], columns: Sequence[Array], next_look: int) -> Analysis[Any]:
        adjusted = self._holm()
        differences = tuple(
            self._difference(keys, a, b, adjusted) for a in range(self.count) for b in range(a + 1, self.count)
        )
        return Analysis(
            look=int(self.seen.max()),
            seeds={key: int(n) for key, n in zip(keys, self.seen, strict=True)},
            means={
                key: float(column[:n].mean()) if n else math.nan
                for key, column, n in zip(keys, columns, self.seen, strict=True)
            },
            eliminated={keys[i]: n for i, n in self.eliminated.items()},
            settled={keys[i]: n for i, n in self.settled.items()},
            choice=None if self.choice is None else keys[self.choice],
            regret=self.regret(),
            margin=self.margin,
            same=tuple(keys[i] for i in self.same()),
            differences=differences,
            upper={
                (keys[a], keys[b]): float(self.upper[a, b])
                for a in range(self.count)
                for b in range(self.count)
                if a != b
            },
            needed=tuple(keys[i] for i in self.running) if next_look else (),
            next_look=next_look,
        )

    def _difference(self, keys: Sequence[Any], a: int, b: int, adjusted: Mapping[tuple[int, int], float]) -> Any:
        p = adjusted[a, b]
        better = None if p > self.alpha or self.sign[a, b] == 0 else keys[a if self.sign[a, b] < 0 else b]
        return Difference(
            keys[a],
            keys[b],
            int(self.common[a, b]),
            float(self.estimate[a, b]),
            -float(self.high[b, a]),
            float(self.high[a, b]),
            p,
            better,
            bool(self.seedless[a, b]),
        )

    def _holm(self) -> dict[tuple[int, int], float]:
        """Return the adjusted p-value of every pair: the smallest alpha at which Holm's procedure rejects it."""
        pairs = [(a, b) for a in range(self.count) for b in range(a + 1, self.count)]
        adjusted: dict[tuple[int, int], float] = {}
        highest = 0.0
        for rank, (a, b) in enumerate(sorted(pairs, key=lambda pair: self.q[pair])):
            highest = max(highest, min(1.0, (len(pairs) - rank) * float(self.q[a, b])))
            adjusted[a, b] = highest
        return adjusted


def _finite(key: Any, values: Sequence[float]) -> Array:
    try:
        given = np.asarray(values)
        column = np.array([np.nan]) if given.dtype.kind not in "iuf" else given.astype(np.float64)
    except Exception:  # an object that says it is an array may raise anything
        column = np.array([np.nan])
    if column.ndim != 1 or not np.isfinite(column).all():
        raise InvalidArgument(
            f"the values of {key} must be finite numbers, one per seed",
            got=values,
            remedy="Replace a diverged run by a bound.",
        )
    return column


def _differences(rows: Array) -> Array:
    """Return x_i - x_k for all pairs of rows, 0 where it is within the resolution."""
    one, other = rows[:, None, :], rows[None, :, :]
    differences = one - other
    differences[np.abs(differences) <= _RESOLUTION * np.maximum(np.abs(one), np.abs(other))] = 0.0
    return differences


def _few_distinct(differences: Array, n: int) -> Any:
    """Return by pair whether fewer than three of fewer than 20 differences are distinct."""
    if n >= _SILENT_BELOW:
        return np.zeros(differences.shape[:2], dtype=bool)
    return (np.diff(np.sort(differences, axis=-1), axis=-1) > 0).sum(axis=-1) + 1 < 3


def is_seedless(values: Sequence[float] | Array) -> bool:
    """Return whether the values of several seeds agree to a millionth.

    >>> is_seedless([0.5, 0.5000001, 0.5]), is_seedless([0.5, 0.51, 0.5])
    (True, False)
    """
    array = np.asarray(values, dtype=np.float64)
    return bool(np.ptp(array) <= _RESOLUTION * np.abs(array).max())
