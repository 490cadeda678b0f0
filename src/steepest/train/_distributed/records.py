"""What the workers of a run have told, put together."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from typing import Any

from steepest.communication import GroupEvent
from steepest.train._distributed.ledger import Counted, Exchange, exchanges
from steepest.train._distributed.messages import Finished, Happened, Looked, Progress, Taken
from steepest.train._distributed.result import Pace, StepLoss
from steepest.train._history import History

__all__ = ["Records"]


class Records:
    """Collects what workers tell; any of them may have died since.

    A step or a validation may be told by several workers, and once more after a fault: the first counts.
    """

    def __init__(self) -> None:
        self.looks: dict[int, Looked] = {}
        self.events: list[GroupEvent] = []
        self.finished: dict[int, Finished] = {}
        self.step = 0  # the newest that was told
        self._taken: dict[int, dict[int, Taken]] = defaultdict(dict)  # by step and worker
        self._counted: dict[int, dict[int, Counted]] = {}

    def add(self, worker: int, message: Any) -> None:
        """Add what a worker has told."""
        if isinstance(message, Progress):
            for each in message.taken:
                self._taken[each.step].setdefault(worker, each)
                self.step = max(self.step, each.step + 1)
            self._counted[worker] = message.counted
        elif isinstance(message, Looked):
            self.looks.setdefault(message.step, message)
        elif isinstance(message, Happened):
            self.events.append(message.event)
        elif isinstance(message, Finished):
            self.finished[worker] = message

    @property
    def losses(self) -> list[StepLoss]:
        """The loss of each step."""
        found: list[StepLoss] = []
        for step in sorted(self._taken):
            parts = [each for each in self._taken[step].values() if each.examples]
            examples = sum(each.examples for each in parts)
            loss = sum(each.loss * each.examples for each in parts) / examples if parts else math.nan
            total = max(each.total for each in self._taken[step].values())
            taken = len(self._taken[step])
            found.append(StepLoss(step=step, loss=loss, examples=examples, divisor=total, workers=taken))
        return found

    @property
    def paces(self) -> list[Pace]:
        """How long the steps took, by worker."""
        by_worker: dict[int, list[Taken]] = defaultdict(list)
        for taken in self._taken.values():
            for worker, each in taken.items():
                by_worker[worker].append(each)
        return [
            Pace(
                worker=worker,
                steps=len(steps),
                computing=statistics.median(each.computing for each in steps),
                exchanging=statistics.median(each.exchanging for each in steps),
            )
            for worker, steps in sorted(by_worker.items())
        ]

    @property
    def exchanges(self) -> list[Exchange]:
        """What was sent, by membership."""
        return exchanges(list(self._counted.values()))

    def history(self, duration: float) -> History:
        """Return the record of the run.

        Args:
            duration: The time of the whole run in seconds.
        """
        looks = [self.looks[step] for step in sorted(self.looks)]
        finished = next(iter(self.finished.values()))
        seconds, before = [0.0], looks[0].time + looks[0].seconds
        per_step: list[float] = []
        for last, look in itertools.pairwise(looks):
            spent = max(0.0, look.time - before)
            seconds.append(seconds[-1] + spent)
            per_step.append(spent / (look.step - last.step))
            before = look.time + look.seconds
        return History(
            steps=[look.step for look in looks],
            valid_loss=[look.loss for look in looks],
            valid_metrics={name: [look.metrics[name] for look in looks] for name in looks[0].metrics},
            seconds=seconds,
            duration=duration,
            diverged=finished.diverged,
            seconds_per_step=statistics.median(per_step) if per_step else math.nan,
            state_bytes=finished.state_bytes,
            remarks=finished.remarks,
            evaluations=[finished.measured + each for each in self._evaluations([look.step for look in looks])],
        )

    def _evaluations(self, steps: list[int]) -> list[int]:
        """Return how many evaluations of the loss were spent before each of these steps.

        The evaluations of all shares are one of the batch. What nobody has told, as before a restart, is taken to be as
        in the other steps.
        """
        told = {step: max(each.evaluations for each in taken.values()) for step, taken in self._taken.items()}
        told = {step: count for step, count in told.items() if count}  # workers without examples spend none
        usual = statistics.median_low(told.values()) if told else 1
        return [sum(told.get(step, usual) for step in range(last)) for last in steps]
