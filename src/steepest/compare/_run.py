"""One run of a comparison, in any process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from steepest._contained import contained, last_line
from steepest.compare._candidates import Candidate
from steepest.compare._design import FIRST_SEED, Run
from steepest.errors import SteepestError, TaskError
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train import Event, History, train
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
    """All that is needed to execute any run of a comparison."""

    task: Task
    candidates: Mapping[str, Candidate]
    inits: Mapping[str, Initializer]
    steps: int
    schedule: Schedule
    device: str
    warmup: int | float | str = 0
    observers: Mapping[str, Callable[[], RunObserver]] = field(default_factory=dict[str, Callable[[], RunObserver]])


def execute(context: RunContext, run: Run) -> History:
    """Execute one run on one thread, so that its result is the same to the bit in every process.

    The first final run of each alternative is observed.

    Raises:
        TaskError: If the task's own code fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        making = context.observers if run.seed == FIRST_SEED else {}
        observers = {name: _Named(name, make) for name, make in making.items()}
        history = train(
            context.task,
            context.candidates[run.cell.optimizer].build,
            context.inits[run.cell.init],
            lr=run.lr,
            seed=run.seed,
            steps=context.steps,
            schedule=context.schedule,
            warmup=context.warmup,
            device=context.device,
            observe=tuple(observers.values()),
        )
        history = replace(history, observations={name: each.found() for name, each in observers.items()})
    except SteepestError:
        raise
    except Exception as error:
        raise TaskError(
            f"a run must train without an error: {run}",
            got=f"{type(error).__name__}: {error}",
            remedy="Finished runs are kept; fix the task and start again.",
        ) from error
    finally:
        torch.set_num_threads(threads)
    # Nothing reads the gradients of tuning runs, which would be most of the storage.
    return history if run.phase == "final" else replace(history, gradient_norm={})


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
