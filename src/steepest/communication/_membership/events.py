"""What happens to a group, for a timeline."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GroupEvent"]


@dataclass(frozen=True)
class GroupEvent:
    """Something that happened to the group, as one worker saw it.

    Attributes:
        kind: What happened. To one worker: "died" (proven), "left" (it had finished), "silent" or "slow" and then
            "left out", "joined", "rejoined". To the group: "formed", "recovered". To the observing worker:
            "interrupted", "waiting" (there is no majority), "copied" (the state of `worker`), "busy".
        time: When, in seconds since 1970.
        step: How many steps the observing worker had completed.
        worker: The number of the worker that it happened to; None for the group.
        detail: More in words, or "".
    """

    kind: str
    time: float
    step: int
    worker: int | None
    detail: str = ""
