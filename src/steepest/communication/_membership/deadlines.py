"""How long a group waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from steepest import _check
from steepest.errors import InvalidArgument

__all__ = ["Deadlines"]


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    r"""How long a group of workers waits, in seconds: heartbeat < step < rebuild < give_up.

    A worker that has not arrived at a step's exchange is left out of the step after

        max(step, patience × the usual duration of a step),

    with the median of the last 50 steps as the usual duration. A process that is gone on the same host is a proven
    death and is noticed at once, without any deadline. Silence alone proves nothing: it only leads to a vote.

    Args:
        heartbeat: The interval at which a worker tells the others what it is doing.
        step: The least time that a late worker is waited for; on a busy machine a step may take seconds.
        patience: How many usual steps a late worker is waited for.
        rebuild: How long new connections may take, and at least the first step after somebody new has joined; the
            first step of all may take four times as long.
        give_up: How long a group that cannot go on waits for better times before it raises an error.
        slow: A worker is left out, too, that computes `slow` times as long as the others in 20 steps running.

    Raises:
        InvalidArgument: If the order heartbeat < step < rebuild < give_up is broken, or a number is not positive.

    Examples:
        >>> Deadlines(step=2.0).heartbeat
        0.1
        >>> Deadlines(step=0.05)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        steepest.errors.InvalidArgument: deadlines must be heartbeat < step < rebuild < give_up (got ...
    """

    heartbeat: float = 0.1
    step: float = 5.0
    patience: float = 5.0
    rebuild: float = 15.0
    give_up: float = 300.0
    slow: float = 3.0

    def __post_init__(self) -> None:
        for name in ("heartbeat", "step", "rebuild", "give_up"):
            _check.in_range(name, getattr(self, name), "(0, inf)")
        _check.in_range("patience", self.patience, "(1, inf)")
        _check.in_range("slow", self.slow, "(1, inf)")
        order = (self.heartbeat, self.step, self.rebuild, self.give_up)
        if sorted(set(order)) != list(order):
            raise InvalidArgument(
                "deadlines must be heartbeat < step < rebuild < give_up",
                got=order,
                remedy="Pass them in this order.",
            )
