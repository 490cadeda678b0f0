"""The rounds of a trial, as its runs show them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from steepest._check import at_least, boolean, instance
from steepest.compare._design import FIRST_SEED, Cell, Run
from steepest.compare._duration import about

__all__ = ["Rounds"]

_FIRST = 5
"""The number of learning rates of the first round of tuning; each later round has one."""


class Rounds:
    """What is known of a trial while it runs: its round, the finished runs, the best of them, and the time left.

    Args:
        looks: The numbers of final seeds after which the results are looked at, ascending; empty if they are unknown.
        higher_is_better: Whether larger values of what is ranked by are better.
        clock: The time in seconds.

    Attributes:
        title: The present round, "" before the first run.
        done: The number of finished runs.
        total: About how many runs there are.
        best: The best run so far, in words; "" before there is one.
    """

    def __init__(
        self,
        looks: Sequence[int] = (),
        *,
        higher_is_better: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._looks = [at_least("a look", n, 1) for n in instance("looks", looks, (list, tuple), "whole numbers")]
        self._sign = -1 if boolean("higher_is_better", higher_is_better) else 1
        self._clock = clock
        self._since: tuple[float, int] | None = None
        self._rates: dict[Cell, set[int]] = {}
        self._place = (0, 0)
        self.title, self.best = "", ""
        self.done = self.total = 0

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Take note of the finished runs, of about `total`."""
        self.done, self.total = len(losses), max(total, len(losses))
        if self._since is None:
            self._since = self._clock(), self.done
        for run in losses:
            self._see(run)
        finite = [run for run, loss in losses.items() if math.isfinite(loss)]
        if finite:
            run = min(finite, key=lambda run: self._sign * losses[run])
            self.best = f"best {losses[run]:.4g} ({run.cell}, {run.lr:.2g})"

    def started(self, run: Run) -> bool:
        """Take note that a run has begun; return whether it is the first of its round here."""
        self._see(run)
        if run.phase == "final":
            seed = run.seed - FIRST_SEED
            first = max((n for n in self._looks if n <= seed), default=0)
            last = min((n for n in self._looks if n > seed), default=0)
            place, title = (1, first), f"Final runs, seeds {first + 1} to {last}" if last else "Final runs"
        else:
            number = max(1, len(self._rates[run.cell]) - _FIRST + 1)
            place, title = (0, number), f"Tuning, round {number}"
        if place <= self._place:
            return False
        self._place, self.title = place, title
        return True

    def _see(self, run: Run) -> None:
        if run.phase == "tuning":
            self._rates.setdefault(run.cell, set()).add(run.grid_index)

    @property
    def state(self) -> str:
        """The finished runs, the best one and the time left, in words."""
        if self.done == self.total:
            return ", ".join(filter(None, [f"{self.done} runs done", self.best]))
        said = [f"{self.done} of about {self.total} runs done"]
        if self.best:
            said.append(self.best)
        if self._since is not None:
            begun, before = self._since
            if self.done > before:
                left = (self.total - self.done) * (self._clock() - begun) / (self.done - before)
                said.append(f"about {about(left)} left")
        return ", ".join(said)
