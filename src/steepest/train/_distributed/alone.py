"""A task that this process trains alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steepest.tasks import Task
from steepest.train._distributed.result import TrainingRun
from steepest.train._distributed.settings import in_words
from steepest.train._events import Event, Start, Step
from steepest.train._loop import train

__all__ = ["train_alone"]


def train_alone(
    task: Task, optimizer: Any, init: Any, *, progress: Callable[[int, int], object] | None, **options: Any
) -> TrainingRun:
    """Train a task as `train` does, and return the result as `train_distributed` does."""
    total = [0]

    def moved(event: Event) -> None:
        if isinstance(event, Start):
            total[0] = event.steps
        elif isinstance(event, Step) and progress is not None:
            progress(event.step + 1, total[0])

    history = train(task, optimizer, init, **options, observe=moved)
    words = in_words(
        task, optimizer, init, options["lr"], options["seed"], total[0], options["schedule"], options["device"]
    )
    return TrainingRun(history=history, task_name=task.name, settings=words)
