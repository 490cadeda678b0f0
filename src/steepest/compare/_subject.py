"""What is compared: a task, or a program."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from steepest._check import instance
from steepest._importing import load_attribute
from steepest.compare._measure import LOSS, Measure, measure_of
from steepest.errors import InvalidArgument
from steepest.tasks import TASKS, Task, load
from steepest.train import Program, Trial

__all__ = ["Subject", "program_at", "program_measure", "subject_of"]

Subject = Task | Program | Callable[[Trial], object] | str
"""A `Task` or a `Program`, the name of a built-in task, a program's function run(trial), or `module:attribute` of one."""


def subject_of(given: Any) -> Task | Program:
    """Return the task or program that is meant.

    Raises:
        UnknownName: If there is no built-in task of that name.
        ImportFailed: If `module:attribute` cannot be imported.
        InvalidArgument: If it is neither task nor program.
    """
    if isinstance(given, Task | Program):
        return given
    if isinstance(given, str):
        if given in TASKS or ":" not in given:
            return load(given)
        found = load_attribute(given)
        return subject_of(found) if _is_program(found) else load(given)
    if callable(given) and not isinstance(given, type):
        return Program(given)
    return instance("task", given, Task, "a Task, the name of one, or a program's function run(trial)")


def program_at(path: str) -> Program:
    """Return the program, or that of the function, at `module:attribute`.

    Raises:
        ImportFailed: If it cannot be imported.
        InvalidArgument: If it is no program.
    """
    if ":" not in instance("program", path, str, "module:attribute"):
        raise InvalidArgument("program must be module:attribute", got=path, remedy="Try for example mine:run.")
    found = load_attribute(path)
    if isinstance(found, Task):
        raise InvalidArgument("program must be a function run(trial)", got="a Task", remedy=f"Pass --task {path}.")
    return found if isinstance(found, Program) else Program(found)


def _is_program(found: Any) -> bool:
    """Return whether it is a program, or a function of the trial; one without arguments makes a task."""
    if not callable(found) or isinstance(found, type):
        return isinstance(found, Program)
    with contextlib.suppress(TypeError, ValueError):
        inspect.signature(found).bind()
        return False
    return True


def program_measure(rank_by: str | None) -> Measure:
    """Return the measure by which a program is ranked, of whose metrics nothing is known before it has run.

    Raises:
        InvalidArgument: If it is a metric without a direction.

    >>> program_measure("max:accuracy")
    Measure(name='accuracy', higher_is_better=True)
    """
    if rank_by is None or rank_by == "loss":
        return LOSS
    if not rank_by.startswith(("max:", "min:")):
        raise InvalidArgument(
            "a program must be ranked by loss, max:NAME or min:NAME",
            got=rank_by,
            remedy=f"Pass --rank-by max:{rank_by} if higher values are better, else min:{rank_by}.",
        )
    return measure_of(rank_by, {})
