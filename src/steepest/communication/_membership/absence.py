"""A worker that was left out, until it is fit to return."""

from __future__ import annotations

from collections.abc import Callable

from steepest.communication._membership.rules import NOTICEABLE

__all__ = ["Absence", "Backoff"]

LONGEST = 30.0
"""Seconds between two tries, at most."""

STEADY = 200
"""Steps after which a worker that has returned counts as if it had never been left out."""

FIT = 2.0
"""A worker returns when it computes at most so many times as long as the others."""


class Backoff:
    """Pauses that double from try to try."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._steps = 0

    def next(self) -> float:
        """Return the next pause, in seconds."""
        pause, self._pause, self._steps = self._pause, min(max(2 * self._pause, 1.0), LONGEST), 0
        return pause

    def step(self) -> None:
        """Take in that a step was completed."""
        self._steps += 1
        if self._steps > STEADY:
            self._pause = 0.0


class Absence:
    """The time in which a worker is left out: it computes a step now and then, to see how fast it is.

    Args:
        backoff: Its pauses.
        clock: The time in seconds.
        is_fit: Whether it need not try.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float], is_fit: bool) -> None:
        self.is_fit = is_fit
        self._backoff, self._clock = backoff, clock
        self.next_try = clock() + backoff.next()

    def judge(self, computed: float, typical: float | None) -> None:
        """Take in how long it has computed, and how long the others do."""
        self.is_fit = typical is None or computed <= max(FIT * typical, NOTICEABLE)
        if not self.is_fit:
            self.next_try = self._clock() + self._backoff.next()
