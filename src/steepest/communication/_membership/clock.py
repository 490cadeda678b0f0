"""How long this worker's steps take."""

from __future__ import annotations

import statistics
from collections import deque

from steepest.communication._membership.messages import Pace

__all__ = ["RUNNING", "StepClock"]

RUNNING = 20
"""Steps running in which a worker must be slow."""


class StepClock:
    """Durations of steps, and of the computing in them, in seconds."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=50)
        self._computing: deque[float] = deque(maxlen=RUNNING)
        self.usual: float | None = None
        self.pace = Pace(0, 0.0, 0.0)

    def restart(self) -> None:
        """Forget who was how fast, in a new view; how long a step takes stays known."""
        self._computing.clear()
        self.pace = Pace(0, 0.0, 0.0)

    def add(self, computing: float, duration: float) -> None:
        """Add a step that was completed."""
        self._durations.append(duration)
        self._computing.append(computing)
        self.usual = statistics.median(self._durations)
        computed = self._computing
        self.pace = Pace(len(computed), min(computed), statistics.median(computed))
