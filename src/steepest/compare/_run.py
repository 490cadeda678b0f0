"""One run of a comparison, in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from steepest.compare._candidates import Candidate
from steepest.compare._design import FIRST_SEED, Run
from steepest.errors import SteepestError, TaskError
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train import Event, History, train

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
    schedule: str
    device: str
    observers: Mapping[str, Callable[[], RunObserver]] = field(default_factory=dict[str, Callable[[], RunObserver]])


def execute(context: RunContext, run: Run) -> History:
    """Execute one run on one thread, so that its result is the same to the bit in every process.

    The first final run of each alternative is observed.

    Raises:
        TaskError: If the task's own code fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    observers = {name: make() for name, make in context.observers.items()} if run.seed == FIRST_SEED else {}
    try:
        history = train(
            context.task,
            context.candidates[run.cell.optimizer].build,
            context.inits[run.cell.init],
            lr=run.lr,
            seed=run.seed,
            steps=context.steps,
            schedule=context.schedule,
            device=context.device,
            observe=tuple(observers.values()),
        )
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
    history = replace(history, observations={name: each.found() for name, each in observers.items()})
    # Nothing reads the gradients of tuning runs, which would be most of the storage.
    return history if run.phase == "final" else replace(history, gradient_norm={})
