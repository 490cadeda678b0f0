"""One run of a comparison, in any process."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from steepest._contained import contained, last_line
from steepest._importing import own_place
from steepest.compare._candidates import Candidate
from steepest.compare._design import FIRST_SEED, Run
from steepest.errors import SteepestError, TaskError
from steepest.estimators import GradientSource
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train import Event, History, Observer, Program, run_program, train
from steepest.train._schedules import Schedule

__all__ = ["RunContext", "RunObserver", "execute"]


class RunObserver(Protocol):
    """An observer of one run whose result is kept in the run's history."""

    def __call__(self, event: Event) -> object:
        """Take note of an event."""
        ...

    def found(self) -> Any:
        """Return the result as plain JSON."""
        ...


@dataclass(frozen=True)
class RunContext:
    """All that is needed to execute any run of a comparison.

    Attributes:
        task: The task, or the program.
        candidates: The optimizers by name.
        inits: The inits by name.
        steps: Training steps per run; None leaves them to a program.
        schedule: The learning rate schedule; None is cosine for a program that asks for one.
        device: The device to train on.
        warmup: Steps of warm-up, or their share.
        observers: Functions that make an observer of a run, by name; for tasks only.
        metric: The metric that a program must report as it is ranked by it; None for the loss.
        gradient: The gradient source of a task; None for backpropagation.
    """

    task: Task | Program
    candidates: Mapping[str, Candidate]
    inits: Mapping[str, Initializer]
    steps: int | None
    schedule: Schedule | None
    device: str
    warmup: int | float | str = 0
    observers: Mapping[str, Callable[[], RunObserver]] = field(default_factory=dict[str, Callable[[], RunObserver]])
    metric: str | None = None
    gradient: GradientSource | None = None


def execute(context: RunContext, run: Run) -> History:
    """Execute one run on one thread, so that its result is the same to the bit in every process.

    The first final run of each alternative is observed.

    Raises:
        TaskError: If the code of the task or program fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        making = context.observers if run.seed == FIRST_SEED else {}
        observers = {name: _Named(name, make) for name, make in making.items()}
        history = _trained(context, run, tuple(observers.values()))
        history = replace(history, observations={name: each.found() for name, each in observers.items()})
    except SteepestError:
        raise
    except Exception as error:
        raise TaskError(
            f"a run must train without an error: {run}",
            got=_with_place(error),
            remedy="Finished runs are kept; fix it and start again.",
        ) from error
    finally:
        torch.set_num_threads(threads)
    # Nothing reads the gradients of tuning runs, which would be most of the storage.
    return history if run.phase == "final" else replace(history, gradient_norm={})


def _with_place(error: Exception) -> str:
    """Return an error as one line, with the file and the line of the innermost frame of the user's own code."""
    lines = str(error).strip().splitlines() or [""]
    # The error of another process arrives with its traceback as text, whose last line is the error.
    text = lines[-1 if any(line.startswith("Traceback ") for line in lines) else 0]
    place = own_place(error)
    return f"{type(error).__name__}: {text}{f' ({place})' if place else ''}"


def _trained(context: RunContext, run: Run, observers: tuple[Observer, ...]) -> History:
    task, build, init = context.task, context.candidates[run.cell.optimizer].build, context.inits[run.cell.init]
    options: dict[str, Any] = {
        "lr": run.lr,
        "seed": run.seed,
        "steps": context.steps,
        "warmup": context.warmup,
        "device": context.device,
    }
    if isinstance(task, Program):
        history = run_program(task, build, init, schedule=context.schedule, **options)
        return history if context.metric is None else _with_metric(history, context.metric)
    options |= {"schedule": context.schedule or "cosine", "gradient": context.gradient}
    return train(task, build, init, observe=observers, **options)


def _with_metric(history: History, name: str) -> History:
    """Return the history of a program that is ranked by a metric; nan where it diverged before it reported that.

    Raises:
        TaskError: If the last report does not have the metric.
    """
    if name in history.valid_metrics:
        return history
    if history.diverged:
        unknown = {name: [math.nan] * len(history.steps)}
        return replace(history, valid_metrics={**history.valid_metrics, **unknown})
    raise TaskError(
        f"the last report of a program must have the metric by which it is ranked, {name}",
        got=", ".join(history.valid_metrics) or "no metric",
        remedy=f"Add it, as in trial.report(step, loss=..., {name}=...), or leave out --rank-by (rank_by=).",
    )


class _Named:
    """An observer whose errors name it, and which cannot end the program."""

    def __init__(self, name: str, make: Callable[[], RunObserver]) -> None:
        self._name = name
        with self._named():
            self._observer = make()

    def __call__(self, event: Event) -> None:
        with self._named():
            self._observer(event)

    def found(self) -> Any:
        """Return what was found, as it comes back from a storage."""
        with self._named():
            return json.loads(json.dumps(self._observer.found()))

    @contextlib.contextmanager
    def _named(self) -> Generator[None]:
        try:
            with contained(f"the observer {self._name!r}"):
                yield
        except SteepestError:
            raise
        except Exception as error:
            raise TaskError(
                f"the observer {self._name!r} must not fail, and must find plain JSON",
                got=last_line(error),
                remedy="Finished runs are kept; fix the observer and start again.",
            ) from error
