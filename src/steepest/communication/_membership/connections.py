"""The connections of one view, over which gradients and states travel: a gloo process group of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from steepest.communication._link import Link
from steepest.communication._membership.membership import Address, Membership, View
from steepest.errors import CommunicationError

__all__ = ["Connecting", "Connections"]

PIECE = 1 << 24
"""Bytes of the pieces in which a state travels."""

ABORT_TAG = 7

ENDLESS = timedelta(days=1)
"""How long gloo itself may wait for another member's gradients: how long the worker does is decided elsewhere."""


class Connections:
    """One member's connections to the others in a view.

    Gloo connects two processes when they first exchange something, and then ignores its timeout. So all pairs exchange
    a number at once, in a thread that may be abandoned: see `Connecting`.

    Args:
        membership: The view.
        address: Of this worker.
        listen: The address of the interface to use.
        seconds: How long it may take to connect, and each piece of a state to arrive.
    """

    def __init__(self, membership: Membership, address: Address, listen: str, seconds: float) -> None:
        self.view: View = membership.seen_by(address.worker)
        self.numbers = tuple(member.worker for member in membership.ranked)
        self._wait = timedelta(seconds=seconds)
        self._others = [rank for rank in range(len(self.numbers)) if rank != self.view.rank]
        host = membership.members[0]
        store = dist.TCPStore(host.host, host.store, is_master=False, wait_for_workers=False, timeout=self._wait)
        gloo: Any = dist.ProcessGroupGloo
        options = gloo._Options()
        options._devices = [gloo.create_device(hostname=listen)]
        options._timeout = self._wait
        options._threads = 1
        prefix = dist.PrefixStore(f"steepest view {membership.number}", store)
        self.group: Any = gloo(prefix, self.view.rank, len(self.numbers), options)
        separate = membership.separate_server is not None
        server = self.view.size if separate else None
        size, rank = self.view.size, self.view.rank
        self.link = Link(
            self.group, rank=rank, size=size, server=server, names=self.numbers, timeout=ENDLESS.total_seconds()
        )
        views = self.gather([membership.number], self._wait)
        if any(row[0] != membership.number for row in views):
            raise CommunicationError("workers of different views have met", got=views)

    def gather(self, row: Sequence[int], wait: timedelta | None = None) -> list[list[int]]:
        """Return what every member passes, by rank: some whole numbers, as many for each."""
        rows = [torch.tensor(row, dtype=torch.int64) for _ in self.numbers]
        works = [self.group.recv([rows[rank]], rank, 1) for rank in self._others]
        works += [self.group.send([rows[self.view.rank]], rank, 1) for rank in self._others]
        for work in works:
            self._finish(work, wait or ENDLESS)
        return [row.tolist() for row in rows]

    def send(self, data: bytes, rank: int) -> None:
        """Send a state to another member."""
        self._finish(self.group.send([torch.tensor([len(data)])], rank, 2))
        for piece in torch.frombuffer(bytearray(data), dtype=torch.uint8).split(PIECE) if data else ():
            self._finish(self.group.send([piece], rank, 2))

    def receive(self, rank: int) -> bytes:
        """Return the state that another member sends."""
        length = torch.zeros(1, dtype=torch.int64)
        self._finish(self.group.recv([length], rank, 2))
        data = torch.empty(int(length), dtype=torch.uint8)
        for piece in data.split(PIECE) if len(data) else ():
            self._finish(self.group.recv([piece], rank, 2))
        return data.numpy().tobytes()

    def abort(self) -> None:
        """Make every wait for another member fail, from another thread than the one that waits.

        A wait of gloo that takes too long closes all connections of the process group; so this waits for nothing, for a
        millisecond, at every connection, as one that is closed already has no effect. `abort()` of torch does not free
        a thread that waits.
        """
        for rank in self._others:
            with contextlib.suppress(RuntimeError):
                self.group.recv([torch.zeros(1)], rank, ABORT_TAG).wait(timedelta(milliseconds=1))

    def _finish(self, work: Any, wait: timedelta | None = None) -> None:
        if not work.wait(wait or self._wait):
            raise RuntimeError("the operation was ended")


class Connecting:
    """The connections of a view while they are made, in a thread of their own.

    Args:
        make: Makes them.
        lock: Notified at the end.
    """

    def __init__(self, make: Callable[[], Connections], lock: threading.Condition) -> None:
        self.made: Connections | None = None
        self.error: BaseException | None = None
        self.is_over = False
        self._make, self._lock = make, lock
        self.thread = threading.Thread(target=self._run, name="steepest connecting", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        made: Connections | None = None
        try:
            made = self._make()
        except BaseException as error:
            self.error = error.with_traceback(None)
        with self._lock:
            self.made, self.is_over = made, True
            self._lock.notify_all()
