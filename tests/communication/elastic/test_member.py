"""Whole groups in simulated time: deaths, standstill, partitions and lost messages, and then everything is well again.

The members are the library's own; only the network, the clock and the exchange of gradients are simulated.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from steepest.communication import Deadlines
from steepest.communication._membership import rules
from steepest.communication._membership.identity import Identity
from steepest.communication._membership.knowledge import Knowledge
from steepest.communication._membership.member import Member
from steepest.communication._membership.membership import Address, Membership

LIMITS = Deadlines(heartbeat=0.1, step=1.0, rebuild=3.0, give_up=300.0)
TICK = 0.02


@dataclass
class Node:
    member: Member
    known: Knowledge
    computes_until: float = 0.0
    view: int = 0
    began: float = 0.0
    asked: float = 0.0
    is_alive: bool = True
    stopped_until: float = 0.0
    seen: set[int] = field(default_factory=set)
    steps: int = 0


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.nodes: dict[int, Node] = {}
        self.waiting: list[tuple[float, int, int, int, Any]] = []
        self.count = 0
        self.loss = self.chance.choice([0.0, 0.0, 0.05, 0.2])
        self.halves: dict[int, int] = {}
        self.completed: list[Membership] = []
        founders = [self.add(number) for number in range(self.chance.randint(2, 6))]
        first = Membership.founding(tuple(node.known.address for node in founders), None)
        for node in founders:
            node.member.found(first, 0.0)
            node.member.enter("computing", 0.0)
            node.computes_until = self.duration()

    def add(self, number: int) -> Node:
        address = Address(number, "host", number, 0, False, Identity("m", "n", number + 1, "s"))
        known = Knowledge(address, LIMITS)
        node = Node(Member(known, lambda to, message: self.send(number, to.worker, message), lambda: self.now), known)
        self.nodes[number] = node
        return node

    def duration(self) -> float:
        return self.chance.uniform(0.05, 0.15)

    def reach(self, one: int, other: int) -> bool:
        return self.halves.get(one, 0) == self.halves.get(other, 0)

    def send(self, sender: int, to: int, message: Any) -> None:
        if self.reach(sender, to) and self.chance.random() >= self.loss:
            self.count += 1
            at = self.now + self.chance.choice([0.001, 0.005, 0.03])
            heapq.heappush(self.waiting, (at, self.count, sender, to, message))

    def run(self, until: float) -> None:
        while self.now < until:
            self.now += TICK
            for node in self.nodes.values():
                if node.is_alive and node.stopped_until < self.now:
                    self.look(node)
            late: list[tuple[float, int, int, int, Any]] = []
            while self.waiting and self.waiting[0][0] <= self.now:
                _, count, sender, to, message = heapq.heappop(self.waiting)
                node = self.nodes[to]
                if node.is_alive and node.stopped_until >= self.now:
                    late.append((self.now + TICK, count, sender, to, message))
                elif node.is_alive:
                    node.member.receive(sender, message, self.now)
            for letter in late:
                heapq.heappush(self.waiting, letter)

    def look(self, node: Node) -> None:
        """What the network thread does, and the worker's own."""
        for number, other in self.nodes.items():
            if not other.is_alive and number not in node.seen:
                node.seen.add(number)
                node.member.gone(number)
        node.member.tick(self.now)
        node.member.events.clear()
        getattr(self, node.known.phase)(node)

    def computing(self, node: Node) -> None:
        if self.now >= node.computes_until:
            if rules.broken(node.known, node.view):
                self.recover(node)
            else:
                node.member.enter("exchanging", self.now)

    def exchanging(self, node: Node) -> None:
        peers = [self.nodes[number] for number in node.known.membership.numbers]
        if rules.late(node.known, node.view, self.now):
            self.recover(node)
        elif all(self.takes_part(node, peer, "exchanging") and peer.steps == node.steps for peer in peers):
            self.check(node.known.membership)
            for peer in peers:
                peer.steps += 1
                peer.known.step = peer.steps
                peer.known.clock.add(0.1, 0.1)
                self.compute(peer)

    def takes_part(self, node: Node, peer: Node, phase: str) -> bool:
        is_here = peer.is_alive and peer.stopped_until < self.now and self.reach(node.known.me, peer.known.me)
        return is_here and peer.known.phase == phase and peer.known.number == peer.view == node.view

    def compute(self, node: Node) -> None:
        node.member.enter("computing", self.now)
        node.computes_until = self.now + self.duration()
        if rules.coordinator(node.known, frozenset()) == node.known.me and rules.ready_to_join(node.known, self.now):
            self.recover(node)

    def recover(self, node: Node) -> None:
        if node.known.number == node.view and node.known.is_in:
            node.member.recover(self.now)
        elif node.known.is_in:
            self.forming(node)
        else:
            node.member.enter("away", self.now)

    def recovering(self, node: Node) -> None:
        if node.known.number > node.view:
            self.recover(node)

    def forming(self, node: Node) -> None:
        if node.view != node.known.number:
            node.view, node.began = node.known.number, self.now
            node.member.enter("forming", self.now)
        peers = [self.nodes[number] for number in node.known.membership.numbers]
        if rules.broken(node.known, node.view) or self.now - node.began > LIMITS.rebuild:
            self.recover(node)
        elif all(self.takes_part(node, peer, "forming") for peer in peers):
            newest = max(peer.steps for peer in peers)
            for peer in peers:
                peer.member.met(peer.view)
                peer.steps = peer.known.step = newest
                self.compute(peer)

    def away(self, node: Node) -> None:
        node.view = node.known.number
        node.member.enter("joining", self.now)

    def joining(self, node: Node) -> None:
        if node.known.is_in:
            self.forming(node)
        elif self.now - node.asked > 0.5:
            node.asked = self.now
            node.member.ask_to_join()

    def check(self, membership: Membership) -> None:
        """No step is completed by a view while somebody lives in another that completed one, unless it is earlier."""
        for node in self.nodes.values():
            own = node.known.membership
            if node.is_alive and own is not None and own in self.completed and node.known.is_in:
                assert own == membership or own.number < membership.number, (own, membership)
        if membership not in self.completed:
            self.completed.append(membership)

    def disturb(self) -> None:
        """Do something bad."""
        living = [number for number, node in self.nodes.items() if node.is_alive]
        full = [number for number in living if self.nodes[number].known.full]
        what = self.chance.choice(["kill", "stop", "split", "heal", "join", "kill two", "nothing"])
        if what in ("kill", "kill two"):
            for number in self.chance.sample(living, min(1 + (what == "kill two"), len(living))):
                if full != [number]:
                    self.nodes[number].is_alive = False
                    full = [other for other in full if other != number]
        elif what == "stop":
            self.nodes[self.chance.choice(living)].stopped_until = self.now + self.chance.uniform(0.1, 6.0)
        elif what == "split":
            self.halves = {number: self.chance.randrange(2) for number in self.nodes}
        elif what == "heal":
            self.halves = {}
        elif what == "join" and len(self.nodes) < 12:
            node = self.add(max(self.nodes) + 1)
            node.member.meet([self.nodes[number].known.address for number in living], self.now)
            self.halves = {**self.halves, node.known.me: self.chance.randrange(2)} if self.halves else {}


def simulate(seed: int) -> World:
    world = World(seed)
    for _ in range(world.chance.randint(1, 8)):
        world.run(world.now + world.chance.choice([0.02, 0.1, 0.5, 3.0]))
        world.disturb()
    # From now on all is well: no messages are lost, nobody stands still.
    world.halves, world.loss = {}, 0.0
    world.run(world.now + 40.0)
    steps = {number: node.steps for number, node in world.nodes.items() if node.is_alive}
    world.run(world.now + 5.0)
    for number, node in world.nodes.items():
        # Who was left out when all others died has nothing to go on from: `begin` raises GroupLost.
        is_deserted = not node.known.is_in and all(peer.gone for peer in node.known.others)
        if node.is_alive and not is_deserted:
            assert node.steps > steps[number] + 10, (seed, number, node.known.phase, node.known.membership)
            assert {other for other, one in world.nodes.items() if one.is_alive} == set(node.known.membership.numbers)
    return world


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_all_that_live_go_on_together_in_the_end(seed):
    simulate(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 1100, 100))
def test_whatever_happens_all_that_live_go_on_together_in_many_more_worlds(first):
    for seed in range(first, first + 100):
        simulate(seed)
