"""What a process sends while it is measured: messages and payload bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field

__all__ = ["Record", "Traffic", "measure", "next_step", "received", "sent", "weighted_by"]


@dataclass(frozen=True)
class Record:
    """One message, as it is counted.

    Attributes:
        sender: The rank that sent it.
        receiver: The rank that received it.
        bytes: The bytes of its payload.
        step: The averaging that it belongs to, from 0, or the step that the program has set.
        operation: What sent it: "point-to-point" for a scheme, else the collective operation of torch.
    """

    sender: int
    receiver: int
    bytes: int
    step: int
    operation: str = "point-to-point"


@dataclass
class Traffic:
    """What this process has sent since `measure()` began.

    Attributes:
        messages: How many messages this process sent.
        bytes: The payload of these messages.
        records: Each of them; with a separate server also each message that this process received from it.
        divisors: The number of examples (or of workers, for a plain mean) by which each averaging has divided.
    """

    messages: int = 0
    bytes: int = 0
    records: list[Record] = field(default_factory=list[Record])
    divisors: list[float] = field(default_factory=list[float])
    _step: int = -1
    _given: bool = False

    @property
    def step(self) -> int:
        """The step of the records that follow: the number of this averaging, or what the program has set."""
        return max(self._step, 0)

    @step.setter
    def step(self, value: int) -> None:
        self._step, self._given = value, True


# What is measured concerns the whole process: a hook may run in a thread of autograd, which knows no context of ours.
_RUNNING: list[Traffic] = []


@contextlib.contextmanager
def measure() -> Generator[Traffic, None, None]:
    """Count what this process sends by schemes of this package."""
    traffic = Traffic()
    _RUNNING.append(traffic)
    try:
        yield traffic
    finally:
        _RUNNING[:] = [other for other in _RUNNING if other is not traffic]


def next_step(step: int | None = None) -> None:
    """Begin another averaging: its number is `step`, or follows from the last one."""
    for traffic in _RUNNING:
        if step is not None:
            traffic.step = step
        elif not traffic._given:
            traffic._step += 1


def weighted_by(divisor: float) -> None:
    """Note the number by which an averaging divides."""
    for traffic in _RUNNING:
        traffic.divisors.append(divisor)


def sent(sender: int, receiver: int, size: int, operation: str = "point-to-point") -> None:
    """Count a message that this process sends."""
    for traffic in _RUNNING:
        traffic.messages += 1
        traffic.bytes += size
        traffic.records.append(Record(sender, receiver, size, traffic.step, operation))


def received(sender: int, receiver: int, size: int) -> None:
    """Note a message from a separate server, which counts nothing itself."""
    for traffic in _RUNNING:
        traffic.records.append(Record(sender, receiver, size, traffic.step))
