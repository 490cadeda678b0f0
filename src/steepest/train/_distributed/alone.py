"""A task that this process trains alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from steepest.tasks import Task
from steepest.train._distributed.result import TrainingRun
from steepest.train._events import Event, Start, Step
from steepest.train._loop import train
from steepest.train._settings import RunSettings, checked

__all__ = ["train_alone"]


def train_alone(
    task: Task, optimizer: Any, init: Any, *, progress: Callable[[int, int], object] | None, **options: Any
) -> TrainingRun:
    """Train a task as `train` does, and return the result as `train_distributed` does."""
    settings = RunSettings(**checked(task, optimizer, init, **options, validations=None))
    total = [settings.steps]

    def moved(event: Event) -> None:
        if isinstance(event, Start):
            total[0] = event.steps
        elif isinstance(event, Step) and progress is not None:
            progress(event.step + 1, total[0])

    history = train(task, optimizer, init, **options, observe=moved)
    words = dataclasses.replace(settings, steps=total[0]).in_words
    return TrainingRun(history=history, task_name=task.name, settings=words)
