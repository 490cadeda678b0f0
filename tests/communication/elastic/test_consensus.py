"""The consensus under thousands of random schedules: messages lost, late and repeated, deaths, partitions that heal."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from steepest.communication._membership.consensus import Chosen, Consensus, Prepare

View = tuple[int, frozenset[int]]
"""Its number, and its members."""


@dataclass
class Node:
    me: int
    view: View | None
    consensus: Consensus | None
    is_full: bool
    has_stopped: bool = False
    is_alive: bool = True
    proofs: set[int] = field(default_factory=set)

    def adopt(self, view: View) -> None:
        old = self.view
        self.is_full = self.is_full and old is not None and view[0] == old[0] + 1 and self.me in old[1]
        self.view, self.has_stopped = view, False
        self.consensus = Consensus(self.me, view[1]) if self.me in view[1] else None


class World:
    """Members that follow one another in views, and a network that does what it likes."""

    def __init__(self, chance: random.Random, workers: int, loss: float, mortality: float) -> None:
        self.chance, self.loss, self.mortality = chance, loss, mortality
        self.founders = workers
        first: View = (0, frozenset(range(workers)))
        self.nodes = {me: Node(me, first, Consensus(me, first[1]), True) for me in range(workers)}
        self.under_way: list[tuple[int, int, int, Any]] = []
        self.halves: dict[int, int] = {}
        self.operated: list[View] = []
        self.next_worker = workers

    def send(self, sender: int, to: int, view: int, message: Any) -> None:
        if self.chance.random() >= self.loss and self.halves.get(sender, 0) == self.halves.get(to, 0):
            self.under_way.append((sender, to, view, message))
            if self.chance.random() < 0.05:
                self.under_way.append((sender, to, view, message))

    def deliver(self, index: int) -> None:
        sender, to, number, message = self.under_way.pop(index)
        node = self.nodes[to]
        if not node.is_alive:
            return
        if message == "latest":
            if node.consensus is None or node.consensus.believes(sender):
                self.learn(node, sender, number)
        elif node.view is not None and number < node.view[0]:
            if to in node.view[1]:
                self.send(to, sender, node.view, "latest")
        elif node.view is not None and number == node.view[0] and node.consensus is not None:
            self.post(node, node.consensus.receive(sender, message))

    def learn(self, node: Node, sender: int, view: View) -> None:
        if node.view is not None and view[0] <= node.view[0]:
            return
        if node.view is not None and view[0] == node.view[0] + 1 and node.consensus is not None:
            node.consensus.learn(sender, view)
            self.follow(node)
        else:
            node.adopt(view)

    def post(self, node: Node, letters: list[tuple[int, Any]]) -> None:
        assert node.view is not None
        for to, message in letters:
            assert to != node.me
            self.send(node.me, to, node.view[0], message)
        self.follow(node)

    def follow(self, node: Node) -> None:
        if node.consensus is not None and node.consensus.chosen is not None:
            before, after = node.view, node.consensus.chosen
            node.adopt(after)
            assert before is not None
            if node.is_full:
                for new in after[1] - before[1]:
                    self.send(node.me, new, after, "latest")

    def propose(self, node: Node) -> None:
        if not node.is_alive or node.view is None or node.consensus is None or not node.is_full:
            return
        number, members = node.view
        node.has_stopped = True
        living = members - node.proofs
        keeps = living if self.chance.random() < 0.7 else {m for m in living if self.chance.random() < 0.7} | {node.me}
        if keeps == living and self.chance.random() < 0.3:
            outside = [other for other in self.nodes if other not in members and other not in node.proofs]
            keeps = keeps | {self.chance.choice(outside)} if outside else keeps
        self.post(node, node.consensus.propose((number + 1, frozenset(keeps)), node.proofs))

    def operate(self) -> None:
        """Let every view operate that can: it needs all its members."""
        for view in {node.view for node in self.nodes.values() if node.view is not None}:
            members = [self.nodes[member] for member in view[1]]
            if all(node.is_alive and node.view == view and not node.has_stopped for node in members):
                if len({self.halves.get(member, 0) for member in view[1]}) > 1:
                    continue
                for node in members:
                    node.is_full = True
                self.check_against(view)
                self.operated.append(view)

    def check_against(self, view: View) -> None:
        """Nobody who lives is in a view that operated and is not an earlier one."""
        for node in self.nodes.values():
            if node.is_alive and node.view in self.operated and node.view is not None:
                assert node.view == view or node.view[0] < view[0], (node, view)

    def check(self) -> None:
        """Members that live agree on the view of each number."""
        full: dict[int, frozenset[int]] = {}
        for node in self.nodes.values():
            if node.is_alive and node.is_full and node.view is not None:
                assert full.setdefault(*node.view) == node.view[1]

    def die(self, node: Node) -> None:
        node.is_alive = False

    def prove(self, node: Node) -> None:
        """Let a node see deaths, and tell another of those that it knows."""
        dead = [other.me for other in self.nodes.values() if not other.is_alive]
        if dead and node.is_alive:
            node.proofs.add(self.chance.choice(dead))

    def new(self) -> None:
        self.nodes[self.next_worker] = Node(self.next_worker, None, None, False)
        self.next_worker += 1

    def step(self) -> None:
        node = self.chance.choice(list(self.nodes.values()))
        what = self.chance.random()
        if what < 0.75 and self.under_way:
            # Mostly in order; sometimes anything.
            size = len(self.under_way)
            self.deliver(0 if self.chance.random() < 0.6 else self.chance.randrange(size))
        elif what < 0.85:
            self.propose(node)
        elif what < 0.9:
            self.prove(node)
        elif what < 0.9 + self.mortality:
            self.die(node)
        elif what < 0.92 + self.mortality and len(self.nodes) < 9:
            self.new()
        elif what < 0.94 + self.mortality:
            self.halves = {} if self.halves else {me: self.chance.randrange(2) for me in self.nodes}
        else:
            self.operate()
        self.check()


def simulate(seed: int, steps: int) -> World:
    chance = random.Random(seed)
    world = World(chance, chance.randint(1, 6), chance.choice([0.0, 0.1, 0.3]), chance.choice([0.0, 0.005, 0.03]))
    for _ in range(steps):
        world.step()
    return world


def test_never_do_two_views_operate_that_do_not_follow_one_another():
    worlds = [simulate(seed, 250) for seed in range(1000)]
    numbers = [max((number for number, _ in world.operated), default=0) for world in worlds]
    assert sum(number > 2 for number in numbers) > 100, "the schedules do not even change the view"
    grown = [world for world in worlds if any(max(members) >= world.founders for _, members in world.operated)]
    assert len(grown) > 10, "nobody joins"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(2000, 40000, 2000))
def test_never_do_two_views_operate_in_many_more_schedules(first):
    for seed in range(first, first + 2000):
        simulate(seed, 400)


def members(*workers: int) -> dict[int, Consensus]:
    return {worker: Consensus(worker, workers) for worker in workers}


def exchange(group: dict[int, Consensus], sender: int, letters: list[tuple[int, Any]], reach: set[int]) -> None:
    """Deliver letters, and their answers, among those that can be reached."""
    waiting = [(sender, to, message) for to, message in letters]
    while waiting:
        sender, to, message = waiting.pop(0)
        if {sender, to} <= reach:
            waiting += [(to, next_to, answer) for next_to, answer in group[to].receive(sender, message)]


@pytest.mark.parametrize(("size", "reached", "is_chosen"), [(5, 3, True), (5, 2, False), (4, 2, False), (1, 1, True)])
def test_silence_leaves_the_choice_to_a_majority_of_the_last_view(size, reached, is_chosen):
    group = members(*range(size))
    reach = set(range(reached))
    exchange(group, 0, group[0].propose("next", ()), reach)
    assert [group[worker].chosen for worker in range(size)] == ["next"] * reached * is_chosen + [None] * (
        size - reached * is_chosen
    )


@pytest.mark.parametrize("dead", [{1, 2}, {0, 1}, {0, 1, 2, 3}])
def test_all_that_are_not_proven_dead_may_choose_however_few(dead):
    group = members(*range(5))
    living = set(range(5)) - dead
    proposer = min(living)
    exchange(group, proposer, group[proposer].propose("next", dead), living)
    assert {group[worker].chosen for worker in living} == {"next"}


def test_survivors_that_are_no_majority_wait_for_one_who_may_know_a_choice():
    group = members(1, 2, 3, 4, 5)
    exchange(group, 1, group[1].propose("the three", ()), {1, 2, 3})
    assert group[3].chosen == "the three"
    exchange(group, 4, group[4].propose("the two", {1, 2}), {4, 5})
    assert group[4].chosen is None, "worker 3 lives, and goes on in another view"
    exchange(group, 4, group[4].propose("the two", {1, 2}), {3, 4, 5})
    assert group[4].chosen == "the three"


def test_votes_from_before_a_death_was_proven_do_not_count_as_those_of_all():
    group = members(1, 2, 3, 4, 5)
    question = dict(group[5].propose("five", ()))[4]
    ((_, promise),) = group[4].receive(5, question)
    assert group[5].receive(4, promise) == []
    again = dict(group[5].propose("five", {1, 2, 3}))
    assert isinstance(again[4], Prepare), "a proof begins another ballot"
    assert group[5].receive(4, promise) == [], "an answer to the last ballot"


def test_what_the_dead_have_sent_is_not_believed_once_a_ballot_counts_without_them():
    group = members(1, 2, 3)
    late = dict(group[1].propose("one", ()))[3]
    exchange(group, 3, group[3].propose("three", {1}), {2, 3})
    assert group[3].chosen == "three"
    assert group[2].receive(1, late) == []
    assert group[2].receive(1, Chosen("one")) == []
    assert group[2].chosen == "three"


def test_a_choice_that_is_known_is_told_to_whoever_proposes_again():
    group = members(1, 2, 3)
    exchange(group, 1, group[1].propose("one", ()), {1, 2})
    exchange(group, 3, group[3].propose("three", ()), {2, 3})
    assert group[3].chosen == "one"


def test_of_two_rivals_the_one_that_tries_again_wins_and_both_agree():
    group = members(1, 2)
    first, second = group[1].propose("one", ()), group[2].propose("two", ())
    exchange(group, 1, first, {1, 2})
    exchange(group, 2, second, {1, 2})
    exchange(group, 1, group[1].propose("one", ()), {1, 2})
    assert group[1].chosen in ("one", "two")
    assert group[1].chosen == group[2].chosen
