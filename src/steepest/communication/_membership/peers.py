"""What one member knows of another."""

from __future__ import annotations

from dataclasses import dataclass, field

from steepest.communication._membership.membership import Address
from steepest.communication._membership.messages import Pace, Phase, Status

__all__ = ["UNKNOWN", "Peer"]

UNKNOWN = Status(-1, "joining", False, -1, Pace(0, 0.0, 0.0), (), (), ())


@dataclass
class Peer:
    """Another worker, as it was last heard of.

    Attributes:
        address: Where it is.
        heard: When it was last heard of.
        status: What it said then.
        recovering_since: When it was first heard to wait for the successor of the view that it is in.
        dead: Whether its death is proven.
        left: Whether it has said farewell.
    """

    address: Address
    heard: float
    status: Status = field(default=UNKNOWN)
    recovering_since: float = 0.0
    dead: bool = False
    left: bool = False

    def hear(self, status: Status, now: float) -> None:
        """Take in a heartbeat."""
        if not self.is_recovering(status.view):
            self.recovering_since = now
        self.status = status

    @property
    def gone(self) -> bool:
        """Whether it will never act again."""
        return self.dead or self.left

    @property
    def phase(self) -> Phase:
        """What it was doing."""
        return self.status.phase

    def is_silent(self, now: float, limit: float) -> bool:
        """Return whether nothing was heard of it for `limit` seconds."""
        return now - self.heard > limit

    def is_recovering(self, view: int) -> bool:
        """Return whether it waits for the successor of a view."""
        return self.status.view == view and self.status.phase == "recovering"
