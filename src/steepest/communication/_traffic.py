"""What a process sends while it is measured: messages and payload bytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from steepest import _check
from steepest.communication._collectives import collectives

__all__ = ["Record", "Traffic", "averaging", "measure", "next_step", "received", "sent"]


@dataclass(frozen=True)
class Record:
    """One message, as it is counted.

    Attributes:
        sender: The rank that sent it.
        receiver: The rank that received it.
        bytes: The bytes of its payload.
        step: The averaging that it belongs to, from 0, or the step that the program has set.
        operation: "point-to-point" for a scheme's own message, else the collective operation of torch that it is a
            part of, by the usual algorithm of that operation.
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
    _step: int = field(default=-1, repr=False)
    _given: bool = field(default=False, repr=False)
    _schemes: set[int] = field(default_factory=set[int], repr=False)

    @property
    def step(self) -> int:
        """The step of the records that follow: the number of this averaging, or what the program has set."""
        return max(self._step, 0)

    @step.setter
    def step(self, value: int) -> None:
        self._step, self._given = value, True

    def _add(self, sender: int, receiver: int, size: int, operation: str) -> None:
        self.messages += 1
        self.bytes += size
        self.records.append(Record(sender, receiver, size, self.step, operation))

    def _collective(self, sender: int, receiver: int, size: int, operation: str) -> None:
        if threading.get_ident() not in self._schemes:
            self._add(sender, receiver, size, operation)


# What is measured concerns the whole process: a hook may run in a thread of autograd, which knows no context of ours.
_RUNNING: list[Traffic] = []


def measure(*, native: bool = True) -> AbstractContextManager[Traffic]:
    """Count every message and payload byte that this process sends.

    What schemes send is counted message by message, in whichever thread. What `torch.distributed` sends by its own
    collective operations, in DistributedDataParallel too, is counted in the thread that measures, as the usual
    algorithm of each operation would send it (an all-reduce as a ring), since backends do not say what they send;
    `Record.operation` names it. A large message travels in pieces and counts as one. What workers compare before they
    send, through the store of their group, does not count.

    Args:
        native: Whether to count the operations of `torch.distributed` too, which makes every operation of torch some
            microseconds slower.

    Returns:
        A context; inside of it, and after it, the `Traffic`.

    Raises:
        InvalidArgument: `native` is not True or False.

    >>> from steepest.communication import Ring
    >>> with measure() as traffic:
    ...     pass  # Ring().average_(gradients)
    >>> traffic.messages, traffic.bytes
    (0, 0)
    """
    return _measuring(_check.boolean("native", native))


@contextlib.contextmanager
def _measuring(native: bool) -> Generator[Traffic, None, None]:
    traffic = Traffic()
    _RUNNING.append(traffic)
    try:
        with collectives(traffic._collective) if native else contextlib.nullcontext():
            yield traffic
    finally:
        _RUNNING[:] = [other for other in _RUNNING if other is not traffic]


@contextlib.contextmanager
def averaging(divisor: float) -> Generator[None, None, None]:
    """Count an averaging that divides by some number, of which the messages count and no operation beneath them."""
    thread = threading.get_ident()
    running = list(_RUNNING)
    next_step()
    for traffic in running:
        traffic.divisors.append(divisor)
        traffic._schemes.add(thread)
    try:
        yield
    finally:
        for traffic in running:
            traffic._schemes.discard(thread)


def next_step(step: int | None = None) -> None:
    """Begin another averaging: its number is `step`, or follows from the last one."""
    for traffic in _RUNNING:
        if step is not None:
            traffic.step = step
        elif not traffic._given:
            traffic._step += 1


def sent(sender: int, receiver: int, size: int, operation: str = "point-to-point") -> None:
    """Count a message that this process sends."""
    for traffic in _RUNNING:
        traffic._add(sender, receiver, size, operation)


def received(sender: int, receiver: int, size: int) -> None:
    """Note a message from a separate server, which counts nothing itself."""
    for traffic in _RUNNING:
        traffic.records.append(Record(sender, receiver, size, traffic.step))
