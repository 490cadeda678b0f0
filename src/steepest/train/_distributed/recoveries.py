"""The changes of a group, out of the events that its workers saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steepest.communication import GroupEvent

__all__ = ["Change", "changes"]

_SAME = 1.0
"""Seconds within which all have seen a change."""

_SAYS = {"died": "died", "left out": "was left out", "joined": "joined", "rejoined": "rejoined"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the group.

    Attributes:
        kind: "died", "left out", "joined" or "rejoined".
        worker: The number of the worker.
        step: The step under way.
        time: When the first of the others saw it, in seconds since the epoch.
        left: The number of workers after it.
        is_server: Whether the worker was the separate server.
    """

    kind: str
    worker: int
    step: int
    time: float
    left: int
    is_server: bool

    def __str__(self) -> str:
        who = "the server" if self.is_server else f"worker {self.worker}"
        left = "1 worker" if self.left == 1 else f"{self.left} workers"
        return f"{who} {_SAYS[self.kind]} at step {self.step}; went on with {left}"


def changes(events: Sequence[GroupEvent], workers: int, server: int | None) -> list[Change]:
    """Return the changes of a group in order; each was seen by several workers.

    Args:
        events: What the workers saw.
        workers: The number of workers at the start, 0 to workers - 1.
        server: The number of the separate server, None without one.
    """
    members = set(range(workers)) | ({server} if server is not None else set())
    found: list[Change] = []
    last: dict[tuple[str, int], int] = {}  # where the last change of this kind is
    for event in sorted(events, key=lambda event: event.time):
        worker = event.worker
        if event.kind not in _SAYS or worker is None:
            continue
        goes = event.kind in ("died", "left out")
        if (worker in members) != goes:  # another has seen it before, perhaps a server, which takes no steps
            place = last.get((event.kind, worker))
            if place is not None and event.time - found[place].time < _SAME:
                found[place] = replace(found[place], step=max(found[place].step, event.step))
            continue
        last[event.kind, worker] = len(found)
        (members.discard if goes else members.add)(worker)
        found.append(
            Change(
                kind=event.kind,
                worker=worker,
                step=event.step,
                time=event.time,
                left=len(members - {server}),
                is_server=worker == server,
            )
        )
    return found
