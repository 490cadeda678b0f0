"""A task with what belongs to one run alone: losses with a state, and data that a function makes."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, ClassVar, Protocol, TypeVar

from steepest.tasks._sources.function import Function
from steepest.tasks._sources.source import Source

__all__ = ["for_one_run"]

_HOLDS_NOTHING = (FunctionType, BuiltinFunctionType, MethodType, type)
_LOSSES = ("loss", "batch_loss", "valid_loss")
_DATA = ("train", "valid")


class HasLosses(Protocol):
    """A dataclass with losses and data: a `steepest.tasks.Task`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def _source(self, field: str) -> Source: ...


T = TypeVar("T", bound=HasLosses)


def for_one_run(task: T, seed: int) -> T:
    """Return the task with a copy of each loss that is an object, and with the data that its functions make.

    Otherwise a running mean or a count in a loss would carry over from run to run, and a function would be called for
    each validation. A loss that cannot be copied is used as it is.
    """
    changes: dict[str, Any] = {}
    for name in _LOSSES:
        loss = getattr(task, name)
        if loss is not None and not isinstance(loss, _HOLDS_NOTHING):
            try:
                changes[name] = copy.deepcopy(loss)
            except Exception:  # an object's own __deepcopy__ may raise anything
                continue
    for name in _DATA:
        source = task._source(name)
        if isinstance(source, Function):
            changes[name] = source.made(seed)
    return replace(task, **changes) if changes else task
