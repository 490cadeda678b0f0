"""Tasks by name or by `module:attribute`."""

from __future__ import annotations

from collections.abc import Callable

from steepest._check import instance
from steepest._importing import load_attribute, loading
from steepest.errors import InvalidArgument, UnknownName
from steepest.tasks._curve import curve
from steepest.tasks._digits import digits
from steepest.tasks._mnist5k import mnist5k
from steepest.tasks._task import Task

__all__ = ["TASKS", "load"]

TASKS: dict[str, Callable[[], Task]] = {"digits": digits, "mnist5k": mnist5k, "curve": curve}
"""The built-in tasks."""


def load(name: str) -> Task:
    """Return the built-in task of that name, or the `Task` (or the result of the function) at `module:attribute`.

    The module may be a file: "mine:task", "mine.py:task" and "./mine.py:task" are the same.

    Raises:
        UnknownName: If there is no such built-in task.
        ImportFailed: If the module or its attribute cannot be imported.
        InvalidArgument: If `module:attribute` is not a task.

    >>> load("digits").name
    'digits'
    """
    if instance("name", name, str, "a string") in TASKS:
        return TASKS[name]()
    if ":" not in name:
        raise UnknownName.among("task", name, TASKS, also=f", or your own as {_own(name)}")
    found = load_attribute(name)
    with loading(name, f"the function {name}"):
        task = found() if callable(found) else found
    if not isinstance(task, Task):
        raise InvalidArgument(
            f"{name} must be a steepest.tasks.Task or a function that returns one",
            got=type(task).__name__,
            remedy="See examples/own_task.py.",
        )
    return task


def _own(name: str) -> str:
    """Return how a task of one's own is named, for what may be meant.

    >>> _own("mine.task"), _own("mine.py"), _own("digit")
    ('mine:task', 'mine.py:task', 'module:attribute or file.py:attribute')
    """
    if name.endswith(".py"):
        return f"{name}:task"
    module, _, attribute = name.rpartition(".")
    return f"{module}:{attribute}" if module else "module:attribute or file.py:attribute"
