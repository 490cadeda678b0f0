"""What one worker knows of the group and of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from steepest.communication._membership.clock import StepClock
from steepest.communication._membership.deadlines import Deadlines
from steepest.communication._membership.membership import Address, Membership
from steepest.communication._membership.messages import Phase, Status
from steepest.communication._membership.peers import Peer

__all__ = ["Knowledge"]

FIRST = 4.0
"""In the first step of all, of which nobody knows how long it takes, so many deadlines of `rebuild` are waited for."""


@dataclass
class Knowledge:
    """What one worker knows of the group and of itself.

    Attributes:
        address: Of this worker.
        deadlines: How long it waits.
        membership: The latest view that it knows; None before the first.
        full: Whether it may propose a successor.
        peers: All others that it ever heard of, by number.
        joining: Who asks to be taken in, by number.
        phase: What it is doing.
        step: How many steps it has completed.
        clock: How fast it is.
        without: Whom it wants to leave out of the next view.
        wait_began: Since when it waits for the others in this step.
        recovery_began: Since when it waits for the successor of the view.
        takes_in: Whether the latest view has a member that the one before had not.
    """

    address: Address
    deadlines: Deadlines
    membership: Membership | None = None
    full: bool = False
    peers: dict[int, Peer] = field(default_factory=dict[int, Peer])
    joining: dict[int, Address] = field(default_factory=dict[int, Address])
    phase: Phase = "joining"
    step: int = 0
    clock: StepClock = field(default_factory=StepClock)
    without: frozenset[int] = frozenset()
    wait_began: float = 0.0
    recovery_began: float = 0.0
    takes_in: bool = False

    @property
    def me(self) -> int:
        """The number of this worker."""
        return self.address.worker

    @property
    def number(self) -> int:
        """The number of the latest view; -1 before the first."""
        return -1 if self.membership is None else self.membership.number

    @property
    def is_in(self) -> bool:
        """Whether this worker is a member of the latest view."""
        return self.membership is not None and self.me in self.membership

    @property
    def others(self) -> list[Peer]:
        """The other members of the latest view."""
        numbers = () if self.membership is None else self.membership.numbers
        return [self.peers[number] for number in numbers if number != self.me]

    @property
    def gone(self) -> frozenset[int]:
        """All that will never act again."""
        return frozenset(worker for worker, peer in self.peers.items() if peer.gone)

    @property
    def is_left_behind(self) -> bool:
        """Whether members of a later view, which this worker does not know, have finished."""
        return any(peer.left and peer.status.view > self.number for peer in self.others)

    @property
    def step_deadline(self) -> float:
        """How long a late worker is waited for, in seconds."""
        usual = self.clock.usual
        limits = self.deadlines
        if usual is None:
            return FIRST * limits.rebuild
        is_first = self.takes_in and self.clock.pace.steps == 0
        return max(limits.rebuild if is_first else limits.step, limits.patience * usual)

    def is_silent(self, peer: Peer, now: float) -> bool:
        """Return whether a peer was not heard of for as long as a step may take."""
        return peer.is_silent(now, self.deadlines.step)

    def status(self) -> Status:
        """Return the heartbeat."""
        dead = tuple(sorted(worker for worker, peer in self.peers.items() if peer.dead))
        left = tuple(sorted(worker for worker, peer in self.peers.items() if peer.left))
        without = tuple(sorted(self.without))
        return Status(self.number, self.phase, self.full, self.step, self.clock.pace, dead, left, without)

    def has_votes(self, now: float) -> bool:
        """Return whether a majority of the members, or all that are not gone, were heard of lately."""
        living = [peer for peer in self.others if not peer.gone]
        here = 1 + sum(not self.is_silent(peer, now) for peer in living)
        return 2 * here > 1 + len(self.others) or here == 1 + len(living)
