"""What is compared: a task, or a program."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from steepest._check import instance
from steepest._importing import load_attribute
from steepest.compare._candidates import Candidate, check_candidate
from steepest.compare._design import Budget
from steepest.compare._measure import LOSS, Measure, measure_of, metrics_of
from steepest.compare._notices import untouched_notices
from steepest.compare._run import RunContext, RunObserver
from steepest.errors import InvalidArgument
from steepest.estimators import GradientSource, needs_autograd
from steepest.init import Initializer
from steepest.tasks import TASKS, Task, load
from steepest.train import History, Program, Trial
from steepest.train._schedules import warmup_steps
from steepest.train._set_up import steps_within

__all__ = [
    "Subject",
    "context_for",
    "directions_for",
    "early_notices",
    "measure_for",
    "program_at",
    "steps_of",
    "subject_of",
]

Subject = Task | Program | Callable[[Trial], object] | str
"""A `Task`, a `Program` or its function run(trial), the name of a built-in task, or `module:attribute` of any."""


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


def measure_for(task: Task | Program, rank_by: str | None) -> Measure:
    """Return the measure by which a task or program is ranked.

    Raises:
        InvalidArgument: If it is a metric without a direction; of a program's metrics nothing is known before it runs.
        UnknownName: If the task has no metric of that name.

    >>> measure_for(Program(print), "max:accuracy")
    Measure(name='accuracy', higher_is_better=True)
    """
    if isinstance(task, Task):
        return measure_of(task.rank_by if rank_by is None else rank_by, metrics_of(task))
    if rank_by is None or rank_by == "loss" or rank_by.startswith(("max:", "min:")):
        return measure_of(rank_by or "loss", {})
    raise InvalidArgument(
        "a program must be ranked by loss, max:NAME or min:NAME",
        got=rank_by,
        remedy=f"Pass --rank-by max:{rank_by} if higher values are better, else min:{rank_by}.",
    )


def context_for(
    task: Task | Program,
    candidates: Mapping[str, Candidate],
    inits: Mapping[str, Initializer],
    budget: Budget,
    device: str,
    observers: Mapping[str, Callable[[], RunObserver]],
    measure: Measure,
    gradient: GradientSource | None = None,
) -> RunContext:
    """Return all that is needed to execute a run; a task is checked before.

    Raises:
        TaskError: If the task cannot be trained.
        InvalidArgument: If the warm-up is as long as the run, the evaluations do not suffice for a step, or there are
            observers, evaluations or a gradient source of a program.
    """
    if isinstance(task, Task):
        task.check(needs_gradient=gradient is None or needs_autograd(gradient))
        steps = steps_within(task, gradient, budget.steps or task.steps, budget.evaluations)
        warmup_steps(budget.warmup, steps)
        schedule = "cosine" if budget.schedule is None else budget.schedule
        return RunContext(task, candidates, inits, steps, schedule, device, budget.warmup, observers, gradient=gradient)
    for name, is_given in (("gradient", gradient is not None), ("evaluations", budget.evaluations is not None)):
        if is_given:
            raise InvalidArgument(
                f"{name} must be left out for a program, whose loop computes the gradients itself",
                got=f"a {'source' if name == 'gradient' else 'budget'} for {task.name}",
                remedy="Call a source of steepest.estimators in the program, or compare a Task.",
            )
    if observers:
        raise InvalidArgument(
            "observers must be left out for a program, whose loop tells them nothing",
            got=", ".join(observers),
            remedy="Use trial.watch in the program, or compare a Task.",
        )
    if budget.steps is not None:
        warmup_steps(budget.warmup, budget.steps)
    metric = None if measure == LOSS else measure.name
    return RunContext(task, candidates, inits, budget.steps, budget.schedule, device, budget.warmup, observers, metric)


def early_notices(context: RunContext) -> tuple[dict[str, str], list[str]]:
    """Return what can be said before any run: of optimizers by name, and of the inits; nothing for a program.

    Raises:
        InvalidArgument: If an optimizer cannot train the task.
    """
    task, schedule = context.task, context.schedule
    if isinstance(task, Program) or schedule is None:
        return {}, []
    checked = {
        name: check_candidate(candidate, task, schedule, context.warmup, context.gradient)
        for name, candidate in context.candidates.items()
    }
    of_optimizers = {name: notice for name, notice in checked.items() if notice is not None}
    return of_optimizers, untouched_notices(task, context.inits)


def steps_of(context: RunContext, histories: Iterable[History]) -> int:
    """Return the training steps of a run; of a program that decides itself, the largest number."""
    ended = (history.steps[-1] for history in histories if not history.diverged)
    return max(ended, default=0) if context.steps is None else context.steps


def directions_for(task: Task | Program, measure: Measure, histories: Iterable[History]) -> dict[str, bool | None]:
    """Return by name whether a higher value of each metric is better: those of a task, or that a program has reported.

    Of a program, these are the metrics that every run has, and only that by which it is ranked has a direction.
    """
    if isinstance(task, Task):
        return metrics_of(task)
    reported = [history.valid_metrics for history in histories if not history.diverged]
    names = [name for name in reported[0] if all(name in each for each in reported)] if reported else []
    return {name: measure.higher_is_better if name == measure.name else None for name in names}
