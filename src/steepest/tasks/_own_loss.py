"""Losses with a state, copied for each run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, ClassVar, Protocol, TypeVar

__all__ = ["with_own_loss"]

_HOLDS_NOTHING = (FunctionType, BuiltinFunctionType, MethodType, type)


class HasLoss(Protocol):
    """A dataclass with a loss: a `steepest.tasks.Task`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def loss(self) -> Callable[..., Any]: ...


T = TypeVar("T", bound=HasLoss)


def with_own_loss(task: T) -> T:
    """Return the task with a copy of its loss, if that is an object.

    Otherwise a running mean or a count in it would carry over from run to run. A loss that cannot be copied is used
    as it is.
    """
    loss = task.loss
    if isinstance(loss, _HOLDS_NOTHING):
        return task
    try:
        return replace(task, loss=copy.deepcopy(loss))
    except Exception:  # an object's own __deepcopy__ may raise anything
        return task
