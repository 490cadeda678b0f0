"""Who belongs to the group."""

from __future__ import annotations

from dataclasses import dataclass

from steepest.communication._membership.identity import Identity

__all__ = ["Address", "Membership", "View"]


@dataclass(frozen=True)
class Address:
    """Where a worker is reached, and which process it is.

    Attributes:
        worker: Its number, for life: a replacement has a new one.
        host: The name or address at which others reach it.
        port: Where it listens for what concerns the membership.
        store: Where it hosts the store over which a view's connections are made.
        server: Whether it is a separate parameter server, without gradients of its own.
        identity: The process.
    """

    worker: int
    host: str
    port: int
    store: int
    server: bool
    identity: Identity


@dataclass(frozen=True)
class View:
    """The group as one worker sees it.

    Attributes:
        number: How many views were before it.
        workers: The numbers of the workers that have gradients, ascending.
        rank: The place of this worker among them; that of a separate server is `size`.
        size: How many they are.
        server: The number of the worker that serves, for a parameter server; else None.
    """

    number: int
    workers: tuple[int, ...]
    rank: int
    size: int
    server: int | None


@dataclass(frozen=True)
class Membership:
    """What the members agree on: view `number` consists of `members`, ascending, and `server` serves."""

    number: int
    members: tuple[Address, ...]
    server: int | None

    def __contains__(self, worker: int) -> bool:
        return any(member.worker == worker for member in self.members)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all members."""
        return tuple(member.worker for member in self.members)

    @property
    def workers(self) -> tuple[int, ...]:
        """The numbers of those that have gradients."""
        return tuple(member.worker for member in self.members if not member.server)

    @property
    def separate_server(self) -> int | None:
        """The number of the member that only serves, if there is one."""
        return next((member.worker for member in self.members if member.server), None)

    @property
    def ranked(self) -> tuple[Address, ...]:
        """The members by rank in the process group: those with gradients, then a separate server."""
        return tuple(sorted(self.members, key=lambda member: (member.server, member.worker)))

    def seen_by(self, worker: int) -> View:
        """Return the view of a member."""
        ranks = [member.worker for member in self.ranked]
        return View(self.number, self.workers, ranks.index(worker), len(self.workers), self.server)

    @classmethod
    def founding(cls, members: tuple[Address, ...], server_rank: int | None) -> Membership:
        """Return the first view; `server_rank` is the place of the worker that also serves, if one does."""
        members = tuple(sorted(members, key=lambda member: member.worker))
        first = cls(0, members, None)
        if first.separate_server is not None or server_rank is None:
            return cls(0, members, first.separate_server)
        return cls(0, members, first.workers[server_rank])

    def followed_by(self, members: tuple[Address, ...]) -> Membership:
        """Return the next view: the server goes on while it is there, else the lowest worker serves."""
        after = Membership(self.number + 1, tuple(sorted(members, key=lambda member: member.worker)), None)
        server = after.separate_server
        if server is None and self.server is not None:
            server = self.server if self.server in after.workers else min(after.workers, default=None)
        return Membership(after.number, after.members, server)
