"""What goes wrong in a simulated run, and how long the workers take to deal with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from steepest import _check
from steepest.communication._membership.deadlines import Deadlines

__all__ = ["Faults"]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Deaths and slow workers, by the rules of `ElasticGroup`.

    A worker's death is noticed after `detection` seconds, or after `silence` seconds if its host is gone too. The
    survivors form a new group in `rebuild` seconds and repeat the step, of which they compute larger shares, as the
    global batch stays what it was. A worker whose gradient has not arrived after max(step, patience x the usual step)
    of the deadlines is left out, as is one that computes for more than `slow` times the median in twenty steps in
    succession; it copies the state and rejoins when it is fast again. A replacement joins in the same way. When a
    separate server dies, the lowest surviving worker serves until it is replaced.

    Attributes:
        between: The mean time between two deaths of one worker in seconds (exponentially distributed).
        silent: The probability that a death is noticed by silence only.
        detection: Seconds in which the death of a process is noticed.
        silence: Seconds of silence after which a worker is taken for dead.
        rebuild: Seconds in which a new group forms.
        replacement: Seconds after a death until a new worker asks to join; infinite: never.
        state: The size of what a joining worker copies, in multiples of the gradient: 3 for parameters and two moments.
        deadlines: Of which `step`, `patience` and `slow` count here.

    >>> Faults.of_job(workers=131_072, between=14 * 60).between == 14 * 60 * 131_072
    True
    """

    between: float = math.inf
    silent: float = 0.0
    detection: float = 0.03
    silence: float = 5.0
    rebuild: float = 0.15
    replacement: float = math.inf
    state: float = 3.0
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        _check.in_range("between", self.between, "(0, inf]")
        _check.in_range("silent", self.silent, "[0, 1]")
        for name in ("detection", "silence", "rebuild"):
            _check.in_range(name, getattr(self, name), "[0, 1e9]")
        _check.in_range("replacement", self.replacement, "[0, inf]")
        _check.in_range("state", self.state, "[0, 1e9]")
        _check.instance("deadlines", self.deadlines, Deadlines, "Deadlines")

    @classmethod
    def of_job(cls, workers: int, between: float, **others: Any) -> Faults:
        """Return the faults of a job of which any worker dies every `between` seconds on average.

        Args:
            workers: How many workers that job has.
            between: The mean time between two failures of the job in seconds. Kokolis et al. (2024,
                arXiv:2410.21680) report 7.9 h with 1,024 GPUs, and 14 min projected to 131,072.
            others: Further fields.

        Raises:
            InvalidArgument: An argument is out of its range.
        """
        _check.at_least("workers", workers, 1, most=10**9)
        _check.in_range("between", between, "(0, 1e12]")
        for name in others:
            _check.one_of("others", name, [*cls.__dataclass_fields__.keys() - {"between"}])
        return cls(between=between * workers, **others)
