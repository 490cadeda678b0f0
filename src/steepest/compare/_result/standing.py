"""The rows of a ranking."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steepest.compare._design import Cell
from steepest.compare._result.intervals import Interval, mean_interval
from steepest.train import History

__all__ = ["Standing", "first_below", "interval_of", "is_unusual", "mean_of_finite"]

_FAR = 100.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One cell's row of the ranking.

    Attributes:
        cell: Optimizer and init.
        lr: The tuned learning rate.
        lr_on_edge: Whether the best rate was at the edge of the rates tried, so that a better one may lie beyond.
        lr_is_unusual: Whether it is more than a hundred times larger or smaller than the usual one of the optimizer.
        seeds: The number of final runs that count.
        eliminated_at: The number of seeds at which others had beaten it; 0 if they have not.
        value: Mean final value of the measure with its 95% interval; a diverged run counts as the worst of tuning.
        loss: Mean final validation loss over the runs that did not diverge; infinite if all did.
        metrics: The same for each metric, by name; nan if all diverged.
        best: Mean over the runs of the best value of the measure at any validation; exploration.
        steps_to_target: Median number of steps to the target over the seeds, infinite where half of them miss it;
            exploration.
        seconds_to_target: The same in seconds of training.
        diverged: The number of final runs that diverged.
        seconds_per_step: Time per step in seconds, the median over the final runs.
        seconds_per_run: Time per run in seconds with its validations, the median over the final runs.
        state_bytes: Size of the optimizer's state in bytes.
    """

    cell: Cell
    lr: float
    lr_on_edge: bool
    lr_is_unusual: bool
    seeds: int
    eliminated_at: int
    value: Interval
    loss: float
    metrics: Mapping[str, float]
    best: float
    steps_to_target: float
    seconds_to_target: float
    diverged: int
    seconds_per_step: float
    seconds_per_run: float
    state_bytes: int


def interval_of(values: Sequence[float]) -> Interval:
    """Return the mean of values with its 95% interval, infinite where a value is."""
    return mean_interval(values) if all(map(math.isfinite, values)) else Interval(math.inf, math.inf, math.inf)


def is_unusual(lr: float, centre: float) -> bool:
    """Return whether a learning rate is more than a hundred times larger or smaller than an optimizer's usual one.

    >>> is_unusual(1e4, 0.1), is_unusual(1e-3, 1e-2)
    (True, False)
    """
    return not 1 / _FAR < lr / centre < _FAR


def first_below(history: History, scores: Sequence[float], target: float) -> tuple[float, float]:
    """Return the first validated step at which a score is at most the target, and the seconds until then."""
    if math.isfinite(target):
        for step, seconds, score in zip(history.steps, history.seconds, scores, strict=True):
            if score <= target:
                return float(step), seconds
    return math.inf, math.inf


def mean_of_finite(values: Sequence[float], otherwise: float) -> float:
    """Return the mean of the finite values; `otherwise` if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else otherwise
