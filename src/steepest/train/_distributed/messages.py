"""What a worker tells the process that started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steepest.communication import GroupEvent
from steepest.train._distributed.ledger import Counted

__all__ = ["Finished", "Happened", "Hello", "Looked", "Lost", "Paused", "Progress", "Taken"]


@dataclass(frozen=True)
class Hello:
    """It has started, and can be reached at this address."""

    address: Any


@dataclass(frozen=True)
class Taken:
    """A step that the worker has taken.

    Attributes:
        step: Its number, from 0.
        loss: The mean loss of the worker's share; nan without examples.
        examples: The examples of the share.
        total: The examples of the whole batch, by which the sum over the workers was divided.
        computing: Seconds for the gradient.
        exchanging: Seconds for the exchange, with waiting for others.
        evaluations: Evaluations of the loss of the share.
    """

    step: int
    loss: float
    examples: int
    total: int
    computing: float
    exchanging: float
    evaluations: int


@dataclass(frozen=True)
class Progress:
    """Steps taken since the last such message, and all that was counted so far."""

    taken: list[Taken]
    counted: dict[int, Counted]


@dataclass(frozen=True)
class Looked:
    """A validation after a step, when it began (seconds since the epoch), and how long it took."""

    step: int
    loss: float
    metrics: Mapping[str, float]
    time: float
    seconds: float


@dataclass(frozen=True)
class Happened:
    """An event of the group."""

    event: GroupEvent


@dataclass(frozen=True)
class Paused:
    """A process is about to be stopped, and is to be continued after these seconds; None for never."""

    pid: int
    seconds: float | None


@dataclass(frozen=True)
class Lost:
    """It cannot go on, as the group has ended without it, or cannot go on itself."""

    why: str


@dataclass(frozen=True)
class Finished:
    """It has taken the last step, or diverged.

    Attributes:
        workers: The workers of the last membership, itself among them.
        digest: Of the bits of all parameters and buffers.
        state_bytes: The size of the optimizer's tensors.
        sizes: How many numbers were exchanged, by data type.
        remarks: Sentences for the user.
        measured: Evaluations of the loss that were spent before the first step.
    """

    workers: tuple[int, ...]
    digest: str
    diverged: bool
    state_bytes: int
    sizes: dict[str, int]
    remarks: list[str]
    measured: int
