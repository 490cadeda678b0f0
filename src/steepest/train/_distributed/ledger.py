"""What was sent, by membership of the group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from steepest.communication import Traffic, View

__all__ = ["Counted", "Exchange", "Ledger", "exchanges"]


@dataclass
class Counted:
    """What one worker has seen of the exchanges of one membership: what it sent, and what a separate server sent to it.

    Attributes:
        workers: The numbers of the workers, by rank.
        server: The number of a separate server; None without one.
        steps: The completed exchanges.
        messages: Their messages, by sender and receiver.
        bytes: Their payload bytes, by sender and receiver.
        broken: Payload bytes of exchanges that a fault has ended.
    """

    workers: tuple[int, ...]
    server: int | None
    steps: int = 0
    messages: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    bytes: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    broken: int = 0


class Ledger:
    """Adds up the traffic that one worker sees.

    Attributes:
        views: By the number of the membership.
    """

    def __init__(self) -> None:
        self.views: dict[int, Counted] = {}

    def add(self, view: View, traffic: Traffic, *, completed: bool) -> None:
        """Add the traffic of one exchange."""
        server = view.server if view.server not in view.workers else None
        found = self.views.setdefault(view.number, Counted(view.workers, server))
        if not completed:
            found.broken += sum(each.bytes for each in traffic.records)
            return
        found.steps += 1
        for each in traffic.records:
            found.messages[each.sender, each.receiver] += 1
            found.bytes[each.sender, each.receiver] += each.bytes


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The exchanges of one membership, as all of its workers have seen them.

    Attributes:
        workers: The numbers of the workers, by rank.
        server: The number of a separate server; None without one.
        steps: The completed exchanges.
        messages: Messages of one exchange by sender and receiver.
        bytes: Payload bytes of one exchange by sender and receiver.
        broken: Payload bytes of exchanges that a fault has ended, as far as they were told.
    """

    workers: tuple[int, ...]
    server: int | None
    steps: int
    messages: dict[tuple[int, int], float]
    bytes: dict[tuple[int, int], float]
    broken: int


def exchanges(ledgers: Sequence[dict[int, Counted]]) -> list[Exchange]:
    """Return the exchanges by membership, in order.

    A worker that died has not told its last exchanges. Therefore each worker's numbers are divided by its own count of
    exchanges before they are added.
    """
    found: list[Exchange] = []
    for view in sorted({number for ledger in ledgers for number in ledger}):
        parts = [ledger[view] for ledger in ledgers if view in ledger]
        found.append(
            Exchange(
                workers=parts[0].workers,
                server=parts[0].server,
                steps=max(part.steps for part in parts),
                messages=_per_step([(part.messages, part.steps) for part in parts]),
                bytes=_per_step([(part.bytes, part.steps) for part in parts]),
                broken=sum(part.broken for part in parts),
            )
        )
    return found


def _per_step(parts: Sequence[tuple[Counter[tuple[int, int]], int]]) -> dict[tuple[int, int], float]:
    found: defaultdict[tuple[int, int], float] = defaultdict(float)
    for counts, steps in parts:
        for link, count in counts.items():
            found[link] += count / steps
    return dict(found)
