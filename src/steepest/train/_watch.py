"""A monitor as an observer of a run."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any

from steepest.diagnose import Monitor
from steepest.train._events import End, Event, Start, Step

__all__ = ["Watch"]


class Watch:
    """An observer that lets a `Monitor` record about as often as the model is validated."""

    def __init__(self) -> None:
        self._monitor: Monitor | None = None

    def __call__(self, event: Event) -> None:
        """Open the monitor at the start, show it every step, and close it at the end."""
        if isinstance(event, Start):
            every = math.ceil(event.steps / event.validations)
            self._monitor = Monitor(event.model, event.optimizer, every, frozen=event.task.frozen)
            self._monitor.__enter__()
        elif self._monitor is not None:
            if isinstance(event, Step):
                self._monitor.record(event.step, event.loss, target=event.target)
            elif isinstance(event, End):
                self._monitor.__exit__(None, None, None)

    def paused(self) -> AbstractContextManager[None]:
        """Return a context in which what others do with the model is not taken for training."""
        return contextlib.nullcontext() if self._monitor is None else self._monitor.paused()

    def found(self) -> dict[str, Any]:
        """Return the recorded data, as fields of a `History`."""
        assert self._monitor is not None
        history = self._monitor.history
        return {
            "gradient_steps": history["step"],
            "train_loss": history["loss"],
            "mean_gradient_norm": history["mean_gradient_norm"],
            "gradient_norm": history["gradient_norm"],
            "diagnosis": self._monitor.diagnosis(),
        }
