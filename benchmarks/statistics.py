"""How often a verdict is wrong, and how often it sees what is there: steepest against scipy.

An optimizer is held against itself: ten paired losses drawn twice from one distribution, so that any "better" is
wrong. `compare_pairs` holds every pair on two measures and shares 5% among all of them; its steps are all equal here,
so that only the loss can differ, which leaves the loss of a single pair a level of 2.5%. `mean_interval` is the same
interval at the 95% of the peers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Row, Table
from steepest.compare import Cell, compare_pairs, mean_interval

SEEDS = 10
REPETITIONS = 400

Sample = NDArray[np.float64]
A, B = Cell("a", "he"), Cell("b", "he")


def _normal(rng: Generator) -> Sample:
    return rng.normal(size=SEEDS)


def _student(rng: Generator) -> Sample:
    return rng.standard_t(3, size=SEEDS)


def _lognormal(rng: Generator) -> Sample:
    return rng.lognormal(size=SEEDS)


def _contaminated(rng: Generator) -> Sample:
    """One loss in ten has ten times the spread."""
    return rng.normal(size=SEEDS) * np.where(rng.random(SEEDS) < 0.1, 10.0, 1.0)


DISTRIBUTIONS: dict[str, Callable[[Generator], Sample]] = {
    "normal": _normal,
    "Student t3": _student,
    "lognormal": _lognormal,
    "contaminated normal": _contaminated,
}


def _compare_pairs(a: Sample, b: Sample) -> bool:
    losses, steps = {A: list(a), B: list(b)}, {A: [1.0] * SEEDS, B: [1.0] * SEEDS}
    return any(pair.better for pair in compare_pairs(losses, steps))


def _mean_interval(a: Sample, b: Sample) -> bool:
    interval = mean_interval(list(a - b))
    return not interval.low <= 0 <= interval.high


def _bootstrap(method: str) -> Callable[[Sample, Sample], bool]:
    def differs(a: Sample, b: Sample) -> bool:
        result = stats.bootstrap((a - b,), np.mean, method=method, rng=np.random.default_rng(0))
        low, high = result.confidence_interval
        return not low <= 0 <= high

    return differs


def _ttest(a: Sample, b: Sample) -> bool:
    return float(stats.ttest_rel(a, b).pvalue) < 0.05


METHODS: dict[str, Callable[[Sample, Sample], bool]] = {
    "steepest compare_pairs": _compare_pairs,
    "steepest mean_interval": _mean_interval,
    "scipy bootstrap BCa": _bootstrap("BCa"),
    "scipy bootstrap percentile": _bootstrap("percentile"),
    "scipy ttest_rel": _ttest,
}


def _twice(draw: Callable[[Generator], Sample]) -> Callable[[Generator], tuple[Sample, Sample]]:
    return lambda rng: (draw(rng), draw(rng))


def _skewed(rng: Generator) -> tuple[Sample, Sample]:
    """Two alternatives of the same mean whose differences are lognormal about it: here nobody keeps the promise."""
    return rng.lognormal(size=SEEDS) - np.exp(0.5), np.zeros(SEEDS)


def _one_spread_apart(rng: Generator) -> tuple[Sample, Sample]:
    """Two normal samples whose differences have the standard deviation 1 and the mean 1."""
    return (rng.normal(size=SEEDS) / 2**0.5 + 1, rng.normal(size=SEEDS) / 2**0.5)


COLUMNS = {
    **{name: _twice(draw) for name, draw in DISTRIBUTIONS.items()},
    "skewed differences": _skewed,
    "power": _one_spread_apart,
}


def run() -> Table:
    seconds = dict.fromkeys(METHODS, 0.0)
    rates = [_rates(draw, seconds) for draw in COLUMNS.values()]
    a_verdict = 1e3 / (REPETITIONS * len(COLUMNS))
    rows: list[Row] = [
        (name, *(f"{of_column[name]:.1%}" for of_column in rates), f"{seconds[name] * a_verdict:.2f}")
        for name in METHODS
    ]
    return Table(
        title="How often an optimizer is called different from itself",
        method=f"{SEEDS} paired losses, {REPETITIONS} repetitions that all methods share (a rate of 5% has a standard "
        f"error of {(0.05 * 0.95 / REPETITIONS) ** 0.5:.1%}), each method promising at most 5% of wrong calls: the "
        "peers and `mean_interval` for this one mean, `compare_pairs` for loss and steps together, the steps all equal "
        "so that only the loss can differ; skewed differences are those of two alternatives of one mean that are not "
        "alike; power is the rate at which a true difference of one standard deviation of the paired differences is "
        "seen, and all times are CPU times, in turns.",
        columns=("method", *COLUMNS, "ms a verdict"),
        rows=rows,
        packages=("numpy", "scipy"),
    )


def _rates(draw: Callable[[Generator], tuple[Sample, Sample]], seconds: dict[str, float]) -> dict[str, float]:
    """Return how often each method calls a and b different, and add up what it took."""
    rng = np.random.default_rng(0)
    called = dict.fromkeys(METHODS, 0)
    for _ in range(REPETITIONS):
        a, b = draw(rng)
        for name, differs in METHODS.items():
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", stats.DegenerateDataWarning)
                called[name] += differs(a, b)
            seconds[name] += time.process_time() - start
    return {name: count / REPETITIONS for name, count in called.items()}
