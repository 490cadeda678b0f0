"""The measure by which alternatives are tuned and ranked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steepest._check import boolean, instance
from steepest.errors import InvalidArgument, UnknownName

if TYPE_CHECKING:
    from steepest.tasks import Task
    from steepest.train import History

__all__ = ["LOSS", "Measure", "measure_of"]

_DIRECTIONS = {"max": True, "min": False}


@dataclass(frozen=True)
class Measure:
    """What decides: the final validation loss, or a metric at the end.

    Args:
        name: "loss", or the name of a metric.
        higher_is_better: Whether larger values are better.

    Raises:
        InvalidArgument: If an argument has another type, name is empty, or a higher loss is called better.
    """

    name: str = "loss"
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        if not instance("name", self.name, str, "a string"):
            raise InvalidArgument("a measure's name must not be empty", got=self.name, remedy='Pass "loss".')
        boolean("higher_is_better", self.higher_is_better)
        if self.name == "loss" and self.higher_is_better:
            raise InvalidArgument("a higher loss must not be better", got="max:loss", remedy="Rank by a metric.")

    @property
    def title(self) -> str:
        """The name as a phrase: "final validation loss", or the metric's name."""
        return "final validation loss" if self.name == "loss" else self.name.replace("_", " ")

    def natural(self, score: float) -> float:
        """Return a score, of which smaller ones are better, as a value of the measure, and the reverse.

        >>> Measure("accuracy", higher_is_better=True).natural(-0.9)
        0.9
        """
        return -score if self.higher_is_better else score

    def score(self, history: History) -> float:
        """Return the last value of a run, of which smaller ones are better; infinite if the run diverged."""
        return math.inf if history.diverged else self._scores(history)[-1]

    def first_score(self, history: History) -> float:
        """Return the first value of a run, of which smaller ones are better; infinite if it is not finite."""
        return self._scores(history)[0]

    def best_score(self, history: History) -> float:
        """Return the best value of a run, of which smaller ones are better; infinite if none is finite."""
        return min(self._scores(history))

    def curve(self, history: History) -> list[float]:
        """Return the values of the measure at the validations of a run.

        Raises:
            InvalidArgument: If the history has no such metric.
        """
        if self.name == "loss":
            return history.valid_loss
        if self.name not in history.valid_metrics:
            raise InvalidArgument(
                "a run must report what it is ranked by",
                got=f"no {self.name}, but {', '.join(['loss', *history.valid_metrics])}",
                remedy="Report it, or rank by something else.",
            )
        return history.valid_metrics[self.name]

    def _scores(self, history: History) -> list[float]:
        scores = [self.natural(value) for value in self.curve(history)]
        return [score if math.isfinite(score) else math.inf for score in scores]


LOSS = Measure()
"""The final validation loss."""


def measure_of(rank_by: str, metrics: Mapping[str, bool | None]) -> Measure:
    """Return the measure that a text stands for.

    Args:
        rank_by: "loss", "metric" (the first one), a metric's name, or "max:NAME" or "min:NAME", which need no metric of
            a known direction.
        metrics: By name, whether a higher value of the metric is better; None if that is unknown.

    Raises:
        InvalidArgument: If the direction of the metric is unknown, or there is no metric.
        UnknownName: If there is no metric of that name.

    >>> measure_of("max:accuracy", {})
    Measure(name='accuracy', higher_is_better=True)
    >>> measure_of("metric", {"accuracy": True, "auc": None})
    Measure(name='accuracy', higher_is_better=True)
    """
    direction, _, name = instance("rank_by", rank_by, str, 'a string such as "loss" or "max:accuracy"').partition(":")
    if name and direction in _DIRECTIONS:
        return Measure(name, _DIRECTIONS[direction])
    if rank_by == "loss":
        return LOSS
    if rank_by == "metric":
        if not metrics:
            raise InvalidArgument("a task that is ranked by its metric must have one", got="no metric")
        rank_by = next(iter(metrics))
    if rank_by not in metrics:
        raise UnknownName.among("metric", rank_by, ["loss", *metrics], also=", or max:NAME or min:NAME of your own")
    higher = metrics[rank_by]
    if higher is None:
        raise InvalidArgument(
            "a metric that is ranked by must have a direction",
            got=rank_by,
            remedy=f"Pass --rank-by max:{rank_by} or min:{rank_by}, or a task with Metric(..., higher_is_better=True).",
        )
    return Measure(rank_by, higher)


def metrics_of(task: Task) -> dict[str, bool | None]:
    """Return by name whether a higher value of each metric of a task is better."""
    return {name: metric.higher_is_better for name, metric in task.metrics.items()}
