"""One worker's part in the membership, without sockets, threads and clocks: what it says, and what it concludes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from steepest.communication._membership import rules
from steepest.communication._membership.consensus import Consensus, Letter
from steepest.communication._membership.events import GroupEvent
from steepest.communication._membership.knowledge import Knowledge
from steepest.communication._membership.membership import Address, Membership
from steepest.communication._membership.messages import About, Ask, Join, Latest, Leaving, Phase, Status
from steepest.communication._membership.peers import Peer

__all__ = ["Member"]


class Member:
    """What a worker says to the group, and what it concludes from what it hears.

    The worker's own thread tells what the worker does; another thread tells what was heard (`receive`, `gone`) and how
    time passes (`tick`).

    Args:
        known: What the worker knows, which this object keeps up to date.
        send: Called with the address of another worker and a message.
        wall: Tells the time of events.
    """

    def __init__(self, known: Knowledge, send: Callable[[Address, Any], None], wall: Callable[[], float]) -> None:
        self.known = known
        self.events: list[GroupEvent] = []
        self._send, self._wall = send, wall
        self._consensus: Consensus | None = None
        self._told = self._proposed = float("-inf")
        self._proposals = 0
        self._waits = False
        self._ever: set[int] = set()
        self._dead: set[int] = set()

    def found(self, membership: Membership, now: float) -> None:
        """Be a founder of the group."""
        self._adopt(membership, now)
        self.known.full = True

    def met(self, view: int) -> None:
        """Take in that all members of a view have met."""
        if view == self.known.number:
            self.known.full = True

    def enter(self, phase: Phase, now: float) -> None:
        """Say what the worker is doing from now on."""
        if phase == "exchanging":
            self.known.wait_began = now
        self.known.phase = phase

    def recover(self, now: float, without: Iterable[int] = ()) -> None:
        """Stop with the present view and wait for its successor, which is to leave out some, if any."""
        known = self.known
        if known.phase != "exchanging":
            known.wait_began = now
        known.phase, known.recovery_began, known.without = "recovering", now, frozenset(without)
        self.tell_all(now)
        self.ask()

    def ask(self) -> None:
        """Ask the other members what they are doing."""
        self._to_members(Ask())

    def leave(self) -> None:
        """Say farewell."""
        self._to_members(Leaving())

    def ask_to_join(self) -> None:
        """Ask all that are known to be taken in."""
        for peer in self.known.peers.values():
            if not peer.gone:
                self._send(peer.address, Join(self.known.address))

    def meet(self, addresses: Iterable[Address], now: float) -> None:
        """Get to know members of a group."""
        for address in addresses:
            if address.worker != self.known.me and address.worker not in self.known.peers:
                self.known.peers[address.worker] = Peer(address, now, dead=address.worker in self._dead)

    def note(self, kind: str, worker: int | None = None, detail: str = "") -> None:
        """Keep an event for the observer."""
        self.events.append(GroupEvent(kind, self._wall(), self.known.step, worker, detail))

    def receive(self, sender: int, message: Any, now: float) -> None:
        """Take in a message of another worker."""
        peer = self.known.peers.get(sender)
        if isinstance(message, Join) and message.address.worker == sender and (peer is None or not peer.gone):
            self.meet([message.address], now)
            if self.known.membership is None or sender not in self.known.membership:
                self.known.joining[sender] = message.address
            peer = self.known.peers.get(sender)
        if peer is None:
            return
        peer.heard = now  # Of somebody who has ended, too: it may have told a choice before.
        match message:
            case Status():
                self._hear(peer, message, now)
            case Ask():
                self._send(peer.address, self.known.status())
            case Latest():
                self._learn(sender, message.membership, now)
            case About():
                self._consider(peer, message, now)
            case Leaving():
                self._farewell(sender)
            case _:
                pass

    def gone(self, worker: int) -> None:
        """Take in that the death of a worker is proven."""
        self._dead.add(worker)  # Somebody who is not known yet, too: others may take it in before they know.
        peer = self.known.peers.get(worker)
        if peer is None or peer.gone:
            return
        peer.dead = True
        self.known.joining.pop(worker, None)
        if self.known.membership is not None and worker in self.known.membership:
            self.note("died", worker)

    def tick(self, now: float) -> None:
        """Do what is due by the clock."""
        if now - self._told >= self.known.deadlines.heartbeat:
            self.tell_all(now)
        if any(peer.phase == "busy" and not self.known.is_silent(peer, now) for peer in self.known.others):
            self.known.wait_began = now  # such time does not count
        if self.known.phase == "recovering" and self.known.full and self.known.is_in:
            self._pursue(now)

    def tell_all(self, now: float) -> None:
        """Send the heartbeat to all that are known."""
        self._told = now
        status = self.known.status()
        for peer in self.known.peers.values():
            if not peer.gone:
                self._send(peer.address, status)

    def _adopt(self, membership: Membership, now: float) -> None:
        """Take a view that was chosen as the latest."""
        known, before = self.known, self.known.membership
        self.meet(membership.members, now)
        if before is not None:
            self._note_changes(before, membership, now)
        self._ever.update(membership.numbers)
        known.membership, known.without = membership, frozenset()
        known.full = known.full and known.is_in and before is not None and membership.number == before.number + 1
        known.takes_in = not set(membership.numbers) <= set(() if before is None else before.numbers)
        if known.phase in ("recovering", "joining") and known.is_in:
            known.phase = "forming"
        elif known.phase == "recovering":
            known.phase = "away"
        known.clock.restart()
        for worker in membership.numbers:
            known.joining.pop(worker, None)
        self._consensus = Consensus(known.me, membership.numbers) if known.is_in else None
        self._proposed, self._proposals, self._waits = float("-inf"), 0, False
        if known.full and before is not None:
            for address in membership.members:
                if address.worker not in before:
                    self._send(address, Latest(membership))

    def _note_changes(self, before: Membership, after: Membership, now: float) -> None:
        for worker in after.numbers:
            if worker not in before:
                self.note("rejoined" if worker in self._ever else "joined", worker)
        for worker in before.numbers:
            if worker in after:
                continue
            peer = self.known.peers.get(worker)
            if peer is not None and not peer.gone:
                self.note("silent" if self.known.is_silent(peer, now) else "slow", worker)
            if peer is None or not peer.gone:
                self.note("left out", worker)

    def _hear(self, peer: Peer, status: Status, now: float) -> None:
        peer.hear(status, now)
        for worker in status.dead:
            self.gone(worker)
        for worker in status.left:
            self._farewell(worker)
        self._update(peer, status.view)

    def _farewell(self, worker: int) -> None:
        peer = self.known.peers.get(worker)
        if peer is not None and not peer.gone:
            peer.left = True
            self.known.joining.pop(worker, None)
            self.note("left", worker)

    def _update(self, peer: Peer, view: int) -> bool:
        """Tell the latest view to somebody who speaks of an earlier one."""
        membership = self.known.membership
        if membership is None or view >= membership.number or not self.known.is_in:
            return False
        self._send(peer.address, Latest(membership))
        return True

    def _learn(self, sender: int, membership: Membership, now: float) -> None:
        if membership.number <= self.known.number or (self._consensus and not self._consensus.believes(sender)):
            return
        if self._consensus is not None and membership.number == self.known.number + 1:
            self._consensus.learn(sender, membership)
            self._follow(now)
        else:
            self._adopt(membership, now)

    def _consider(self, peer: Peer, about: About, now: float) -> None:
        if self._update(peer, about.view):
            return
        if about.view == self.known.number and self._consensus is not None:
            self._post(self._consensus.receive(peer.address.worker, about.message))
            self._follow(now)

    def _follow(self, now: float) -> None:
        if self._consensus is not None and self._consensus.chosen is not None:
            self._adopt(self._consensus.chosen, now)

    def _pursue(self, now: float) -> None:
        assert self._consensus is not None
        successor = rules.successor(self.known, now)
        if successor is None:
            return
        if not self._waits and not self.known.has_votes(now):
            self._waits = True
            self.note("waiting", self.known.me, "no majority of the last membership can be reached")
        # Rivals draw apart: each waits a time of its own.
        pause = self.known.deadlines.heartbeat * (1 + min(self._proposals, 8) * (1 + self.known.me % 7) / 4)
        if now - self._proposed < pause:
            return
        self._proposals, self._proposed = self._proposals + 1, now
        self._post(self._consensus.propose(successor, self.known.gone))
        self._follow(now)

    def _post(self, letters: list[Letter]) -> None:
        for worker, message in letters:
            self._send(self.known.peers[worker].address, About(self.known.number, message))

    def _to_members(self, message: Any) -> None:
        for peer in self.known.others:
            if not peer.gone:
                self._send(peer.address, message)
