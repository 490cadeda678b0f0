"""What a worker's own thread does between two steps: recover, take others in, return after it was left out."""

from __future__ import annotations

import time
from typing import Protocol

from steepest.communication._membership import rules
from steepest.communication._membership.absence import Absence, Backoff
from steepest.communication._membership.membership import Membership, View
from steepest.communication._membership.node import Node
from steepest.errors import GroupLost

__all__ = ["State", "Worker"]

MOST_FAILURES = 20
"""Failures of one step, without anything that explains them, after which the step itself is to blame."""


class State(Protocol):
    """All that a worker needs to go on where another one is: parameters, buffers, optimizer, place in the data."""

    @property
    def step(self) -> int:
        """How many steps it has seen."""
        ...

    def save(self) -> bytes:
        """Return it as bytes."""
        ...

    def load(self, data: bytes) -> None:
        """Become what another worker has saved."""
        ...


class Worker:
    """A worker between two steps.

    Args:
        node: Its connections, and what it knows.

    Attributes:
        state: All that another worker would need to go on; None for a separate server.
        view: The latest view in which it takes or took part.
        absence: Since it was left out; None while it is a member.
        is_new: Whether its state counts for nothing, as it has not yet been part of the group, or was left out.
    """

    def __init__(self, node: Node) -> None:
        self.node, self.known, self.member = node, node.known, node.member
        self.state: State | None = None
        self.view: View | None = None
        self.absence: Absence | None = None
        self.is_new = True
        self._backoff = Backoff()
        self._is_synchronized = False
        self._failures = 0

    def found(self, membership: Membership) -> None:
        """Be a founder of the group."""
        self.view, self.is_new = membership.seen_by(self.known.me), False

    def come(self) -> None:
        """Be one who asks to be taken in."""
        self.absence = Absence(self._backoff, time.monotonic, is_fit=True)

    def prepare(self, *, takes_in: bool = True) -> bool:
        """Do one thing that is to be done before the next step; return whether there was none.

        True with `absence` set means: compute a step, as a trial of how fast this worker is.
        """
        self.node.report()
        if self.absence is not None:
            return self._return(self.absence)
        with self.node.lock:
            if self.state is not None:
                self.known.step = self.state.step
            view = -1 if self.view is None else self.view.number
            why = rules.broken(self.known, view) or ("" if self.node.connections else "the connections failed")
            is_broken = bool(why)
            if why and self.node.connections is not None:
                self.member.note("interrupted", detail=why)
            slow = frozenset[int]() if is_broken else rules.slow_workers(self.known)
            change = not is_broken and takes_in and self._starts_change(slow)
        if is_broken:
            self._recover()
        elif not self._is_synchronized:
            self._is_synchronized = self._synchronize()
        elif change:
            self._settle()
            self._recover(slow)
        else:
            return True
        return False

    def stop(self, without: frozenset[int] = frozenset()) -> None:
        """Stop with the present view, and say so; nothing is said twice."""
        self.node.disconnect()
        self._is_synchronized = False
        with self.node.lock:
            is_present = self.view is None or self.known.number == self.view.number
            if self.known.is_in and is_present and self.known.phase != "recovering":
                self.member.recover(time.monotonic(), without)

    def interrupted(self, why: str) -> None:
        """Take in that a step has failed.

        Raises:
            GroupLost: It failed too often.
        """
        self._failures += 1
        if self._failures > MOST_FAILURES:
            raise GroupLost(
                f"the exchange of gradients failed {self._failures} times running",
                got=why,
                remedy="See what the other workers say, and start again from a checkpoint.",
            )
        with self.node.lock:
            self.member.note("interrupted", detail=why)
        self.stop()

    def completed(self) -> None:
        """Take in that a step was completed."""
        self._failures = 0
        self._backoff.step()

    def _starts_change(self, slow: frozenset[int]) -> bool:
        known = self.known
        assert known.membership is not None
        if rules.coordinator(known, slow) != known.me:
            return False
        serves = known.membership.separate_server is not None
        newcomers = [one for one in rules.ready_to_join(known, time.monotonic()) if not (one.server and serves)]
        return bool(slow or newcomers)

    def _settle(self) -> None:
        """Wait until the other members have completed the last step, so that nobody's is interrupted."""

        def is_settled() -> bool:
            view = self.known.number
            return all(
                peer.gone or peer.address.server or peer.status.step >= self.known.step or peer.is_recovering(view)
                for peer in self.known.others
            )

        end = time.monotonic() + self.known.step_deadline
        with self.node.lock:
            self.member.ask()
        while not self.node.wait(is_settled, 0.05) and time.monotonic() < end:
            with self.node.lock:
                self.member.ask()

    def _recover(self, without: frozenset[int] = frozenset()) -> None:
        began = time.monotonic()
        self.stop(without)
        while True:
            view = -1 if self.view is None else self.view.number
            if not self._await_successor(view, began):
                return
            with self.node.lock:
                is_in = self.known.is_in
            if not is_in:
                self._be_left_out()
                return
            if self._take_part():
                break
        seconds = time.monotonic() - began
        with self.node.lock:
            self.member.note("recovered", detail=f"{self._size()} workers, {seconds:.3f} s")

    def _take_part(self) -> bool:
        """Connect to the others of the latest view, and be where they are; return whether that worked."""
        with self.node.lock:
            assert self.known.membership is not None
            self.view = self.known.membership.seen_by(self.known.me)
        if self.node.connect() and self._synchronize():
            self._is_synchronized = True
            self.is_new = False
            return True
        self.stop()
        return False

    def _await_successor(self, view: int, began: float) -> bool:
        """Wait for the next view; return whether there is one, or nobody is left for whom a server could serve."""

        def is_over() -> bool:
            is_alone = self.known.is_left_behind and all(peer.gone for peer in self.known.others)
            return self.known.number > view or is_alone or (self.known.address.server and not self.has_workers())

        longest = max(self.known.deadlines.give_up, 2 * self.known.step_deadline)
        if not self.node.wait(is_over, began + longest - time.monotonic()):
            raise self._lost()
        if self.known.number <= view and not self.known.address.server:
            raise self._deserted()
        return self.known.number > view

    def has_workers(self) -> bool:
        """Return whether a worker is left that a separate server can serve."""
        members = self.known.membership
        if members is None:
            return True
        return any(worker not in self.known.gone for worker in members.workers)

    def _synchronize(self) -> bool:
        """Be where the member is that has completed most; return whether that worked."""
        step = -1 if self.is_new or self.state is None else self.state.step
        steps, failed = self.node.exchange(lambda connections: [row[0] for row in connections.gather([step])], "sum")
        if failed:
            return False
        newest = max(steps)
        source = steps.index(newest)
        behind = [rank for rank, other in enumerate(steps[: self._size()]) if other < newest]
        if not behind or self.state is None or self.view is None:
            return True
        if self.view.rank == source:
            data = self.state.save()
            for rank in behind:
                _, failed = self.node.exchange(lambda connections, rank=rank: connections.send(data, rank), "copy")
                if failed:
                    return False
        elif self.view.rank in behind:
            data, failed = self.node.exchange(lambda connections: connections.receive(source), "copy")
            if failed:
                return False
            self.state.load(data)
            with self.node.lock:
                self.known.step = self.state.step
                self.member.note("copied", self.view.workers[source], f"{len(data)} bytes")
        return True

    def _size(self) -> int:
        assert self.view is not None
        return self.view.size

    def _be_left_out(self) -> None:
        self.node.disconnect()
        self._is_synchronized, self.is_new = False, True
        self.absence = Absence(self._backoff, time.monotonic, is_fit=self.known.address.server)
        with self.node.lock:
            self.member.enter("away", time.monotonic())

    def _return(self, absence: Absence) -> bool:
        """Come back to the group, if this worker is fit; True: it should try how fast it is."""
        if not absence.is_fit:
            self.node.wait(self._is_deserted, absence.next_try - time.monotonic())
            if self._is_deserted():
                raise self._deserted()
            return True
        began = time.monotonic()
        with self.node.lock:
            self.member.enter("joining", began)
        while not self.node.wait(lambda: self.known.is_in or self._is_deserted(), 0.0):
            if time.monotonic() - began > self.known.deadlines.give_up:
                raise self._lost()
            with self.node.lock:
                self.member.ask_to_join()
            self.node.wait(lambda: self.known.is_in or self._is_deserted(), 5 * self.known.deadlines.heartbeat)
        if not self.known.is_in:
            raise self._deserted()
        if self._take_part():
            self.absence = None
        else:
            self._wait_in_vain()
        return False

    def _wait_in_vain(self) -> None:
        """After the view that was to take this worker in has failed: wait for the next, or ask again."""
        assert self.view is not None
        view = self.view.number
        self.node.wait(lambda: self.known.number > view or self._is_deserted(), self.known.deadlines.rebuild)
        with self.node.lock:
            is_in = self.known.number > view and self.known.is_in
        if not is_in:
            self.absence = Absence(self._backoff, time.monotonic, is_fit=True)
            self.node.wait(self._is_deserted, self.absence.next_try - time.monotonic())

    def _is_deserted(self) -> bool:
        """Return whether nobody is left that could take this worker in."""
        peers = self.known.others if self.known.membership is not None else self.known.peers.values()
        return not self.known.is_in and all(peer.gone for peer in peers)

    def _deserted(self) -> GroupLost:
        return GroupLost("the group has ended without this worker", remedy="Nothing is left to be done in it.")

    def _lost(self) -> GroupLost:
        known = self.known
        now = time.monotonic()
        missing = [peer.address.worker for peer in known.others if not peer.gone and known.is_silent(peer, now)]
        return GroupLost(
            f"the group could not go on within {known.deadlines.give_up:g} s: no majority of its members answered",
            got=f"no answer from workers {missing}",
            remedy="Start it again from a checkpoint, or pass Deadlines(give_up=...) if it should wait longer.",
        )
