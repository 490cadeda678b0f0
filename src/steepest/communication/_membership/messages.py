"""What members say to each other, and how it travels: frames of JSON."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from steepest.communication._membership import consensus
from steepest.communication._membership.identity import Identity
from steepest.communication._membership.membership import Address, Membership

__all__ = ["About", "Ask", "Frames", "Hello", "Join", "Latest", "Leaving", "Pace", "Phase", "Status", "encode"]

Phase = Literal["computing", "exchanging", "busy", "recovering", "forming", "joining", "away"]
"""What a worker is doing; "busy": something that is no step (validation, copying the state), "away": left out."""

LARGEST = 1 << 24
"""Bytes of the largest frame that is believed."""


@dataclass(frozen=True)
class Pace:
    """How long a worker computed per step, over its last steps in the view, in seconds."""

    steps: int
    least: float
    median: float


@dataclass(frozen=True)
class Hello:
    """First on every connection: who speaks."""

    address: Address


@dataclass(frozen=True)
class Status:
    """The heartbeat.

    Attributes:
        view: The number of the latest view that the sender knows; -1 for none.
        phase: What it is doing.
        full: Whether it may propose a view: not before it has met all of a view.
        step: How many steps it has completed.
        pace: How fast it computes.
        dead: All whose death is proven to it.
        left: All that have said farewell.
        without: Whom it wants to leave out of the next view.
    """

    view: int
    phase: Phase
    full: bool
    step: int
    pace: Pace
    dead: tuple[int, ...]
    left: tuple[int, ...]
    without: tuple[int, ...]


@dataclass(frozen=True)
class Ask:
    """A request for the status, at once."""


@dataclass(frozen=True)
class Join:
    """A request to be taken in."""

    address: Address


@dataclass(frozen=True)
class Latest:
    """The latest view, for one who knows an earlier one only."""

    membership: Membership


@dataclass(frozen=True)
class Leaving:
    """The sender's last words: it will never act again."""


@dataclass(frozen=True)
class About:
    """A message about the successor of a view."""

    view: int
    message: consensus.Message


_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Pace, Hello, Status, Ask, Join, Latest, Leaving, About, Address, Identity, Membership),
        *(consensus.Prepare, consensus.Promise, consensus.Propose, consensus.Vote, consensus.Refuse, consensus.Chosen),
    )
}


def encode(message: Any) -> bytes:
    """Return a message as a frame: its length in four bytes, and JSON."""
    body = json.dumps(_plain(message), separators=(",", ":")).encode()
    return struct.pack("!I", len(body)) + body


class Frames:
    """Puts together what arrives on one connection."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the messages that are complete; a ValueError says that the sender speaks something else."""
        self._received += data
        while len(self._received) >= 4:
            (length,) = struct.unpack_from("!I", self._received)
            if length > LARGEST:
                raise ValueError("the frame is too long")
            if len(self._received) < 4 + length:
                return
            body = bytes(self._received[4 : 4 + length])
            del self._received[: 4 + length]
            try:
                yield _made(json.loads(body))
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise ValueError("the frame holds no message") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"": type(value).__name__, **fields}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _made(value: Any) -> Any:
    if isinstance(value, dict):
        return _KINDS[value.pop("")](**{name: _made(item) for name, item in value.items()})
    return tuple(_made(item) for item in value) if isinstance(value, list) else value
