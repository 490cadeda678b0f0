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
        raise UnknownName.among("task", name, TASKS, also=", or your own as module:attribute")
    found = load_attribute(name)
    with loading(name, f"the function {name}", "a function at module:attribute must make its task without arguments"):
        task = found() if callable(found) else found
    if not isinstance(task, Task):
        raise InvalidArgument(
            f"{name} must be a steepest.tasks.Task or a function that returns one",
            got=type(task).__name__,
            remedy="See examples/own_task.py.",
        )
    return task
