"""The result of training one task once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from steepest.communication import GroupEvent, Measurement, ParameterServer, Scheme
from steepest.train._distributed.ledger import Exchange
from steepest.train._distributed.recoveries import Change, changes
from steepest.train._history import History

__all__ = ["GroupRun", "Pace", "StepLoss", "TrafficRow", "TrainingRun"]


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """The training loss of a step.

    Attributes:
        step: The number of the step, from 0.
        loss: The mean over the examples of the batch.
        examples: The examples of the workers that have told their part: all, but where one died before it told it.
        divisor: The examples of the whole batch, by which the sum of the gradients was divided.
        workers: How many workers took the step.
    """

    step: int
    loss: float
    examples: int
    divisor: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long the steps of one worker took: medians in seconds.

    Attributes:
        worker: The number of the worker.
        steps: The steps that it took.
        computing: For its gradient.
        exchanging: For the exchange, with waiting for others.
    """

    worker: int
    steps: int
    computing: float
    exchanging: float


@dataclass(frozen=True, kw_only=True)
class GroupRun:
    """What is known of the workers of a run.

    Attributes:
        workers: The number of workers at the start.
        scheme: How they averaged their gradients.
        parameters: How many numbers were exchanged, by data type: the parameters, and statistics that the model keeps.
        losses: The training loss of each step.
        exchanges: What was sent, for each membership of the group.
        events: What happened to the group, with times in seconds since the epoch.
        paces: How long the steps took, by worker.
        survivors: The workers that finished.
        agrees: Whether all of them ended with the same bits.
        measurements: Times of the schemes on this machine, measured after the run; empty if they were not.
    """

    workers: int
    scheme: Scheme
    parameters: dict[str, int]
    losses: list[StepLoss]
    exchanges: list[Exchange]
    events: list[GroupEvent]
    paces: list[Pace]
    survivors: tuple[int, ...]
    agrees: bool
    measurements: list[Measurement] = field(default_factory=list[Measurement])

    @property
    def recoveries(self) -> list[str]:
        """A sentence for each change of the group, as "worker 2 died at step 50; went on with 3 workers"."""
        return [str(change) for change in self.changes]

    @property
    def changes(self) -> list[Change]:
        """The changes of the group, in order."""
        return changes(self.events, self.workers, self.workers if self._has_server else None)

    @property
    def _has_server(self) -> bool:
        return isinstance(self.scheme, ParameterServer) and self.scheme.server is None

    @property
    def traffic(self) -> list[TrafficRow]:
        """What was sent in one exchange of each membership, and what the formulas say."""
        return [self._row(each) for each in self.exchanges if each.steps]

    def _row(self, exchange: Exchange) -> TrafficRow:
        scheme = self.scheme
        if isinstance(scheme, ParameterServer) and scheme.server is None and exchange.server is None:
            scheme = ParameterServer(0)  # the separate server has died, and a worker has taken its place
        size = len(exchange.workers)
        costs = [scheme.cost(size, count, getattr(torch, dtype)) for dtype, count in self.parameters.items()]
        names = f"{size} worker" if size == 1 else f"{size} workers"
        return TrafficRow(
            name=names if exchange.server is None else f"{names} and a server",
            steps=exchange.steps,
            messages=sum(exchange.messages.values()),
            bytes=sum(exchange.bytes.values()),
            expected_messages=sum(cost.messages for cost in costs),
            expected_bytes=sum(cost.bytes for cost in costs),
        )


@dataclass(frozen=True, kw_only=True)
class TrafficRow:
    """The traffic of one exchange, measured and by the formulas.

    Attributes:
        name: The membership in words.
        steps: The number of such exchanges.
        messages: Messages of one, as counted.
        bytes: Payload bytes of one, as counted.
        expected_messages: Messages by the formula.
        expected_bytes: Payload bytes by the formula.
    """

    name: str
    steps: int
    messages: float
    bytes: float
    expected_messages: int
    expected_bytes: int


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A task that was trained once.

    Attributes:
        history: The curves and costs; without gradients and diagnosis where several workers trained.
        task_name: The name of the task.
        settings: What it was trained with, by name, in words.
        group: The workers; None where this process trained alone.
    """

    history: History
    task_name: str
    settings: dict[str, str]
    group: GroupRun | None = None

    @property
    def counts_evaluations(self) -> bool:
        """Whether its gradients came from a source other than backpropagation, so that evaluations are what counts."""
        return "gradient" in self.settings

    @property
    def headline(self) -> str:
        """What came out, in one sentence."""
        history = self.history
        counted = f" ({history.evaluations[-1]:,} evaluations of the loss)" if self.counts_evaluations else ""
        steps = f"{history.steps[-1]:,} steps{counted} in {_seconds(history.seconds[-1])} s"
        if history.diverged:
            return f"{self.task_name} diverged after {steps}."
        metrics = [f"{name} {values[-1]:.3g}" for name, values in history.valid_metrics.items()]
        found = ", ".join([f"validation loss {history.valid_loss[-1]:.3g}", *metrics])
        return f"{self.task_name}: {found} after {steps}."


def _seconds(value: float) -> str:
    """Return seconds with two digits, whole ones from ten on.

    >>> _seconds(2.345), _seconds(203.4)
    ('2.3', '203')
    """
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
