"""How often the statements of a trial are wrong, and how many seeds they take: `steepest.compare.analyse` and peers.

Values of alternatives are drawn at random, paired by seed. A trial is wrong if any of its statements is: one of two
equal alternatives is said to beat the other, the regret of the choice is larger than its bound, or a difference is
larger than the margin within which it is called none.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Row, Table
from steepest.compare import Sequential, analyse, mean_interval

TRIALS = 4_000
REPETITIONS = 400
SEEDS = 10

Array = NDArray[np.float64]
Draw = Callable[[Generator, int, int], Array]


def _normal(rng: Generator, count: int, seeds: int) -> Array:
    return rng.normal(size=(count, seeds)) / math.sqrt(2)  # so that a paired difference has the standard deviation 1


def _student(rng: Generator, count: int, seeds: int) -> Array:
    return rng.standard_t(3, size=(count, seeds)) / math.sqrt(6)


def _lognormal(rng: Generator, count: int, seeds: int) -> Array:
    return rng.lognormal(size=(count, seeds))


def _ties(rng: Generator, count: int, seeds: int) -> Array:
    return np.round(2 * rng.normal(size=(count, seeds)))


def _others_skewed(rng: Generator, count: int, seeds: int, spread: float) -> Array:
    """The first, the choice of most trials, is normal; the others have its mean and are lognormal about it."""
    values = rng.lognormal(0, spread, size=(count, seeds)) - math.exp(spread**2 / 2)
    values[0] = values[0].std() * rng.normal(size=seeds)
    return values


def _deviation(spread: float) -> float:
    """Return the standard deviation of exp(N(0, spread^2))."""
    return math.sqrt(math.expm1(spread**2)) * math.exp(spread**2 / 2)


def _disasters(rng: Generator, count: int, seeds: int) -> Array:
    """One run in a hundred of all but the first is a disaster that makes up for the rest of its mean."""
    values = 0.1 * rng.normal(size=(count, seeds))
    values[1:] += np.where(rng.random((count - 1, seeds)) < 0.01, 50.0, 0.0) - 0.5
    return values


@dataclass(frozen=True)
class _Found:
    wrong: float
    decided: float
    seeds: float
    regret: float


def _simulate(draw: Draw, means: Sequence[float], plan: Sequential, trials: int = TRIALS) -> _Found:
    rng, truth = np.random.default_rng(0), np.asarray(means, dtype=float)
    most = plan.looks[-1]
    wrong, decided, seeds, regrets = 0, 0, 0.0, 0.0
    for _ in range(trials):
        values = draw(rng, len(truth), most) + truth[:, None]
        found = analyse(dict(enumerate(values)), plan)
        assert found.choice is not None
        beats = any(
            truth[each.better] >= truth[each.b if each.better == each.a else each.a]
            for each in found.differences
            if each.better is not None
        )
        costly = truth[found.choice] - truth.min() > found.regret
        unequal = any(abs(truth[i] - truth[found.choice]) > found.margin for i in found.same)
        wrong += bool(beats or costly or unequal)
        decided += found.regret <= found.margin
        seeds += sum(found.seeds.values()) / len(truth)
        regrets += found.regret
    return _Found(wrong / trials, decided / trials, seeds / trials, regrets / trials)


def run() -> list[Table]:
    return [_errors(), _seeds(), _peers()]


def _errors() -> Table:
    plan = Sequential(max_seeds=80, margin=0.3)
    draws: dict[str, tuple[Draw, float]] = {
        "normal": (_normal, 0.0),
        "Student t3": (_student, 0.0),
        "lognormal, all": (_lognormal, 0.0),
        "whole numbers with ties": (_ties, 0.0),
        "the others mildly skewed (lognormal .5)": (partial(_others_skewed, spread=0.5), 0.01 * _deviation(0.5)),
        "the others extremely skewed (lognormal 1.5)": (partial(_others_skewed, spread=1.5), 0.01 * _deviation(1.5)),
        "rare disasters of the others (1 in 100)": (_disasters, 0.0),
    }
    rows = [
        (name, *(f"{_simulate(draw, [0.0, *[worse] * (count - 1)], plan).wrong:.1%}" for count in (2, 3, 5, 8)))
        for name, (draw, worse) in draws.items()
    ]
    error = math.sqrt(0.05 * 0.95 / TRIALS)
    return Table(
        title="How often a trial says anything wrong",
        method=f"K alternatives of one mean (where the others are skewed, their mean is a hundredth of their standard "
        f"deviation worse); looks after 5, 10, 20, 40 and 80 seeds, margin .3, {TRIALS:,} trials (a "
        f"rate of 5% has a standard error of {error:.2%}); wrong is any statement that one beats another, on the "
        "regret or on what is the same. The last rows show where no method that rests on t holds.",
        columns=("values", "K = 2", "3", "5", "8"),
        rows=rows,
        packages=("numpy", "scipy"),
    )


def _seeds() -> Table:
    until = Sequential(max_seeds=80)
    rows: list[Row] = []
    for apart in (2.0, 1.0, 0.5):
        cells = [_simulate(_normal, [0.0, *[apart] * (count - 1)], until) for count in (2, 5, 8)]
        rows.append((f"one is {apart:g} sd better", *(f"{each.seeds:.1f} ({each.decided:.0%})" for each in cells)))
    within = Sequential(max_seeds=80, margin=0.5)
    cells = [_simulate(_normal, [0.0] * count, within) for count in (2, 5, 8)]
    rows.append(("all equal, margin .5 sd", *(f"{each.seeds:.1f} ({each.decided:.0%})" for each in cells)))
    for fixed in (5, 10, 20):
        cells = [_simulate(_normal, [0.0] * count, Sequential(looks=(fixed,))) for count in (2, 5, 8)]
        rows.append((f"all equal, bound after {fixed} seeds, one look", *(f"{each.regret:.2f} sd" for each in cells)))
    return Table(
        title="Seeds per alternative until a choice, and the bound on its regret",
        method=f"Normal values, sd that of a paired difference; looks as above, {TRIALS:,} trials; in brackets the "
        "share that is decided by 80 seeds.",
        columns=("means", "K = 2", "5", "8"),
        rows=rows,
        packages=("numpy", "scipy"),
    )


def _analyse(a: Array, b: Array) -> bool:
    return analyse({"a": a, "b": b}, Sequential(looks=(SEEDS,))).differences[0].better is not None


def _mean_interval(a: Array, b: Array) -> bool:
    interval = mean_interval(a - b)
    return not interval.low <= 0 <= interval.high


def _bootstrap(method: str) -> Callable[[Array, Array], bool]:
    def differs(a: Array, b: Array) -> bool:
        result = stats.bootstrap((a - b,), np.mean, method=method, rng=np.random.default_rng(0))
        low, high = result.confidence_interval
        return not low <= 0 <= high

    return differs


def _ttest(a: Array, b: Array) -> bool:
    return float(stats.ttest_rel(a, b).pvalue) < 0.05


METHODS: dict[str, Callable[[Array, Array], bool]] = {
    "steepest analyse": _analyse,
    "steepest mean_interval": _mean_interval,
    "scipy bootstrap BCa": _bootstrap("BCa"),
    "scipy bootstrap percentile": _bootstrap("percentile"),
    "scipy ttest_rel": _ttest,
}


def _contaminated(rng: Generator, count: int, seeds: int) -> Array:
    """One value in ten has ten times the spread."""
    return rng.normal(size=(count, seeds)) * np.where(rng.random((count, seeds)) < 0.1, 10.0, 1.0)


def _one_apart(rng: Generator, count: int, seeds: int) -> Array:
    return _normal(rng, count, seeds) + np.array([[1.0], [0.0]])


COLUMNS: dict[str, Draw] = {
    "normal": _normal,
    "Student t3": _student,
    "lognormal": _lognormal,
    "contaminated normal": _contaminated,
    "power": _one_apart,
}


def _peers() -> Table:
    seconds = dict.fromkeys(METHODS, 0.0)
    rates = [_rates(draw, seconds) for draw in COLUMNS.values()]
    per_verdict = 1e3 / (REPETITIONS * len(COLUMNS))
    rows: list[Row] = [
        (name, *(f"{of_column[name]:.1%}" for of_column in rates), f"{seconds[name] * per_verdict:.2f}")
        for name in METHODS
    ]
    return Table(
        title="A fixed number of seeds: how often an optimizer is called different from itself",
        method=f"{SEEDS} paired values, {REPETITIONS} repetitions that all methods share (a rate of 5% has a standard "
        f"error of {math.sqrt(0.05 * 0.95 / REPETITIONS):.1%}), each method promising at most 5% of wrong calls; "
        "power is the rate at which a true difference of one standard deviation of the paired differences is seen; CPU "
        "times, in turns.",
        columns=("method", *COLUMNS, "ms per verdict"),
        rows=rows,
        packages=("numpy", "scipy"),
    )


def _rates(draw: Draw, seconds: dict[str, float]) -> dict[str, float]:
    """Return how often each method calls a and b different, and add up what it took."""
    rng = np.random.default_rng(0)
    called = dict.fromkeys(METHODS, 0)
    for _ in range(REPETITIONS):
        a, b = draw(rng, 2, SEEDS)
        for name, differs in METHODS.items():
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", stats.DegenerateDataWarning)
                called[name] += differs(a, b)
            seconds[name] += time.process_time() - start
    return {name: count / REPETITIONS for name, count in called.items()}
