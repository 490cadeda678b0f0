"""Tasks by name or by `module:attribute`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from steepest._check import instance
from steepest._contained import contained
from steepest.errors import ImportFailed, InvalidArgument, UnknownName
from steepest.tasks._curve import curve
from steepest.tasks._digits import digits
from steepest.tasks._mnist5k import mnist5k
from steepest.tasks._task import Task

__all__ = ["TASKS", "load", "load_attribute"]

TASKS: dict[str, Callable[[], Task]] = {"digits": digits, "mnist5k": mnist5k, "curve": curve}
"""The built-in tasks."""


def load(name: str) -> Task:
    """Return the built-in task of that name, or the `Task` (or function that returns one) at `module:attribute`.

    Raises:
        UnknownName: If there is no such built-in task.
        ImportFailed: If the module or its attribute cannot be imported.
        InvalidArgument: If what is there is not a task.

    >>> load("digits").name
    'digits'
    """
    if instance("name", name, str, "a string") in TASKS:
        return TASKS[name]()
    if ":" not in name:
        raise UnknownName.among("task", name, TASKS, also=", or your own as module:attribute")
    found = load_attribute(name)
    with _loading(name, f"the function {name}", "a function at module:attribute must make its task without arguments"):
        task = found() if callable(found) else found
    if not isinstance(task, Task):
        raise InvalidArgument(
            f"{name} must be a steepest.tasks.Task or a function that returns one",
            got=type(task).__name__,
            remedy="See examples/own_task.py.",
        )
    return task


def load_attribute(path: str) -> Any:
    """Import `module:attribute`, with the working folder on the module path as `python -m` has it.

    Raises:
        ImportFailed: With the last line of the import's own error.
    """
    module, _, attribute = instance("path", path, str, "a string").partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _loading(path, f"the module of {path}", "module:attribute must be importable from this folder"):
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    return found


@contextlib.contextmanager
def _loading(path: str, what: str, rule: str) -> Generator[None]:
    """Turn whatever a user's own code raises while it is loaded into an error that says so.

    Where the code has moved to it stays: what it loads later may lie there.

    Raises:
        ImportFailed: Always where the code inside raises anything.
    """
    try:
        with contained(what, ImportFailed, keep_folder=False):
            yield
    except ImportFailed:
        raise
    except Exception as error:
        raise ImportFailed(rule, got=path, remedy=f"It said: {type(error).__name__}: {error}") from error
