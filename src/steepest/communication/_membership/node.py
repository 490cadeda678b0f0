"""One worker among others: its thread for the membership, and what the worker's own thread waits for."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from steepest.communication._membership import rules
from steepest.communication._membership.connections import Connecting, Connections
from steepest.communication._membership.deadlines import Deadlines
from steepest.communication._membership.events import GroupEvent
from steepest.communication._membership.identity import Identity
from steepest.communication._membership.knowledge import Knowledge
from steepest.communication._membership.member import Member
from steepest.communication._membership.membership import Address
from steepest.communication._membership.mesh import Mesh
from steepest.communication._membership.runner import ABANDONED, Runner
from steepest.communication._stores import host

__all__ = ["Node"]

SOON = 0.02
"""Seconds between two looks at the clock while the group changes."""


class Node:
    """One worker among others.

    Args:
        worker: Its number.
        is_server: Whether it only serves.
        listen: The address of the interface to listen on.
        contact: The address at which others reach it.
        deadlines: How long it waits.
        observe: Told of events, in the thread that calls `report`.
    """

    def __init__(
        self,
        worker: int,
        is_server: bool,
        listen: str,
        contact: str,
        deadlines: Deadlines,
        observe: Callable[[GroupEvent], object] | None,
    ) -> None:
        self.lock = threading.Condition()
        self.contact = contact
        identity = Identity.own()
        self._store = host(listen)  # over it a view is connected when this worker is its lowest
        self._mesh = Mesh(listen, identity, self, self.lock)
        self.address = Address(worker, contact, self._mesh.port, self._store.port, is_server, identity)
        self.known = Knowledge(self.address, deadlines)
        self.member = Member(self.known, self._mesh.send, time.time)
        self.connections: Connections | None = None
        self.is_closed = False
        self._waits_for: Literal["", "copy", "sum"] = ""
        self._observe = observe
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._is_aborting, self._reason = False, ""
        self._runner: Runner | None = None
        self._mesh.start(self.address)

    # For the thread of the membership, with the lock held

    def heard(self, worker: int, message: Any) -> None:
        """Take in a message."""
        self.member.receive(worker, message, time.monotonic())

    def ended(self, worker: int) -> None:
        """Take in that a worker's process has ended."""
        self.member.gone(worker)

    def failed(self, error: BaseException) -> None:
        """Take in that the thread has ended because of an error, which the worker's own thread is to raise."""
        self._failure = error

    def due(self) -> float:
        """Do what is due by the clock: heartbeats, proposals, and the end of waits that lead to nothing."""
        now = time.monotonic()
        self.member.tick(now)
        if self.connections is not None and self._waits_for and not self._is_aborting:
            view = self.connections.view.number
            why = rules.late(self.known, view, now) if self._waits_for == "sum" else rules.broken(self.known, view)
            if why:
                self._is_aborting, self._reason = True, why
                self._start(threading.Thread(target=self._abort, args=(self.connections, self._runner), daemon=True))
        soon = self.known.phase in ("recovering", "forming", "joining", "exchanging")
        return SOON if soon else self.known.deadlines.heartbeat

    # For the worker's own thread

    def report(self) -> None:
        """Tell the observer what has happened."""
        with self.lock:
            if self._failure is not None:
                raise self._failure
            events, self.member.events = self.member.events, []
        if self._observe is not None:
            for event in events:
                self._observe(event)

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds, reporting events; return whether it does in the end."""
        end = time.monotonic() + seconds
        while True:
            with self.lock:
                if until():
                    return True
                if not self.member.events and self._failure is None:
                    left = end - time.monotonic()
                    if left <= 0:
                        return False
                    self.lock.wait(min(left, self.known.deadlines.heartbeat))
            self.report()

    def connect(self) -> bool:
        """Connect to the others of the latest view; return whether all have met."""
        with self.lock:
            known, membership = self.known, self.known.membership
            assert membership is not None
            self.member.enter("forming", time.monotonic())
        limits = known.deadlines
        connecting = Connecting(lambda: Connections(membership, self.address, self.contact, limits.rebuild), self.lock)
        self._threads.append(connecting.thread)
        number = membership.number
        self.wait(lambda: connecting.is_over or bool(rules.broken(known, number)), limits.rebuild + 1)
        with self.lock:
            if connecting.made is None or rules.broken(known, number):
                return False
            self.connections = connecting.made
            self.member.met(number)
        return True

    def disconnect(self) -> None:
        """Give up the present connections; whoever waits for this worker hears of it at once."""
        with self.lock:
            self.connections = None

    def exchange(self, action: Callable[[Connections], Any], kind: Literal["copy", "sum"]) -> tuple[Any, str]:
        """Do something that waits for others; return its result, and why it failed, in words: "" if it did not."""
        with self.lock:
            connections = self.connections
            if connections is None:
                return None, "there are no connections"
            if why := rules.broken(self.known, connections.view.number):
                return None, why
            self.member.enter("exchanging" if kind == "sum" else "busy", time.monotonic())
            if self._runner is None or self._runner.is_abandoned:
                self._runner = Runner()
            runner, self._waits_for, self._is_aborting = self._runner, kind, False
        try:
            result, why = runner.run(lambda: action(connections))
            return result, self._reason if why == ABANDONED else why
        finally:
            with self.lock:
                self._waits_for = ""
                if runner.is_abandoned or self._is_aborting:
                    runner.end()
                    self._runner = None

    @staticmethod
    def _abort(connections: Connections, runner: Runner) -> None:
        connections.abort()
        runner.abandon()

    def close(self, seconds: float = 0.5) -> None:
        """End the threads, after what waits has been sent."""
        if self.is_closed:
            return
        self.is_closed = True
        self.disconnect()
        if self._runner is not None:
            self._runner.end()
        self._mesh.close(seconds)
        for thread in self._threads:
            if (
                thread.is_alive()
            ):  # One that returns from C++ when Python has ended would end the process with an error.
                atexit.register(thread.join, self.known.deadlines.rebuild)

    def cut(self, workers: frozenset[int]) -> None:
        """Make workers unreachable, as a network that falls apart would: for tests."""
        with self.lock:
            self._mesh.cut = workers
            connections = self.connections
        if connections is not None:
            self._start(threading.Thread(target=connections.abort, name="steepest cut", daemon=True))

    def _start(self, thread: threading.Thread) -> None:
        self._threads = [other for other in self._threads if other.is_alive()]
        self._threads.append(thread)
        thread.start()
