"""What a task reports besides its loss."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from steepest._check import boolean, instance
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["Metric", "is_running", "metrics_of", "ranked_by"]

_RESERVED = "loss"


@dataclass(frozen=True)
class Metric:
    """A metric with its direction and its name.

    Args:
        function: metric(output, target) -> a number, of all validation outputs and targets together, on the CPU; or an
            object with update(output, target) and compute(), as in torchmetrics.
        higher_is_better: Whether higher values are better; None for the attribute `higher_is_better` that the function
            or object may have, as those of torchmetrics do. Where it has none the direction is unknown (None): the
            metric is reported, and nothing can be ranked by it.
        name: Its name in reports and tables; None for the function's or the class's own.

    Raises:
        InvalidArgument: If function is neither, higher_is_better is not True, False or None, or the name is no text,
            empty, or "loss".

    >>> from steepest.tasks import accuracy
    >>> Metric(accuracy, higher_is_better=True).name
    'accuracy'
    """

    function: Any
    higher_is_better: bool | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not _is_metric(self.function):
            raise InvalidArgument(
                "a task's metric must be a function, or an object with update and compute",
                got=self.function,
                remedy="Pass an instance, not a class.",
            )
        if self.higher_is_better is None:
            object.__setattr__(self, "higher_is_better", _direction(self.function))
        else:
            boolean("higher_is_better", self.higher_is_better)
        if self.name is None:
            object.__setattr__(self, "name", _own_name(self.function))
        elif not instance("a metric's name", self.name, str, "a string"):
            raise InvalidArgument("a metric's name must not be empty", got=self.name, remedy='Try "accuracy".')
        if self.name == _RESERVED:
            raise InvalidArgument(
                f"a metric's name must not be {_RESERVED}, which is that of the validation loss",
                got=self.name,
                remedy='Give it another one: Metric(function, name="mine").',
            )


def metrics_of(given: Any) -> dict[str, Metric]:
    """Return the metrics by name of what a task was given: nothing, one metric, or a mapping from names.

    Raises:
        InvalidArgument: If it is something else.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        named = {_text(name): _metric(each, name) for name, each in cast("Mapping[Any, Any]", given).items()}
        if not named:
            raise InvalidArgument("a mapping of metrics must not be empty", got=given, remedy="Pass metric=None.")
        return named
    metric = _metric(given, None)
    return {str(metric.name): metric}


def ranked_by(rank_by: Any, metrics: Mapping[str, Metric]) -> tuple[str, bool | None]:
    """Return the name of what alternatives are ranked by, and whether higher is better, None where it is not known.

    Args:
        rank_by: "loss", "metric" (the first metric), a metric's name, "max:NAME" or "min:NAME".
        metrics: The metrics by name.

    Raises:
        InvalidArgument: If rank_by is no string.
        UnknownName: If there is no metric of that name.

    >>> ranked_by("loss", {}), ranked_by("max:right", {"right": Metric(lambda output, target: 1.0)})
    (('loss', False), ('right', True))
    """
    instance("rank_by", rank_by, str, "a string", remedy='Pass "loss", "metric" or the name of a metric.')
    direction, _, name = rank_by.rpartition(":") if rank_by.startswith(("max:", "min:")) else ("", "", rank_by)
    name = next(iter(metrics)) if name == "metric" and metrics and "metric" not in metrics else name
    if name != _RESERVED and name not in metrics:
        raise UnknownName.among("metric to rank by", name, [_RESERVED, *metrics])
    known = False if name == _RESERVED else metrics[name].higher_is_better
    return name, {"max": True, "min": False}.get(direction, known)


def _text(name: Any) -> str:
    return instance("a metric's name", name, str, "a string", remedy='Pass for example metric={"accuracy": accuracy}.')


def _metric(given: Any, name: str | None) -> Metric:
    if isinstance(given, Metric):
        return given if name is None else Metric(given.function, given.higher_is_better, name)
    return Metric(given, name=name)


def _is_metric(function: Any) -> bool:
    return not isinstance(function, type) if is_running(function) else callable(function)


def is_running(function: Any) -> bool:
    """Return whether it accumulates: whether it has `update` and `compute`."""
    try:
        return all(callable(getattr(function, name, None)) for name in ("update", "compute"))
    except Exception:  # an object's own __getattr__ may raise anything
        return False


def _direction(function: Any) -> bool | None:
    function = function.func if isinstance(function, functools.partial) else function
    try:
        found = getattr(function, "higher_is_better", None)
    except Exception:  # an object's own __getattr__ may raise anything
        return None
    return found if isinstance(found, bool) else None


def _own_name(function: Any) -> str:
    function = function.func if isinstance(function, functools.partial) else function
    return str(getattr(function, "__name__", type(function).__name__))
