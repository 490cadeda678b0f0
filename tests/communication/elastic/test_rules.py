"""Who proposes, who is late, who is slow: what one worker concludes from what it knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steepest.communication import Deadlines
from steepest.communication._membership import rules
from steepest.communication._membership.absence import Absence, Backoff
from steepest.communication._membership.clock import StepClock
from steepest.communication._membership.identity import Identity
from steepest.communication._membership.knowledge import Knowledge
from steepest.communication._membership.membership import Address, Membership
from steepest.communication._membership.messages import Pace, Status
from steepest.communication._membership.peers import Peer

NOW = 100.0
LIMITS = Deadlines(heartbeat=0.1, step=2.0, patience=5.0, rebuild=10.0, give_up=60.0, slow=3.0)


def address(worker: int, server: bool = False) -> Address:
    return Address(worker, "127.0.0.1", 1, 2, server, Identity("machine", "namespace", 10 + worker, "5"))


def knowledge(me: int = 0, workers: int = 4, servers: int = 0, **status) -> Knowledge:
    """What worker `me` knows in view 3, when all wait for the next one."""
    members = tuple(address(number, number >= workers) for number in range(workers + servers))
    known = Knowledge(members[me], LIMITS, Membership(3, members, None), full=True, phase="recovering", step=7)
    known.wait_began = known.recovery_began = NOW
    said = replace(Status(3, "recovering", True, 7, Pace(0, 0.0, 0.0), (), (), ()), **status)
    known.peers = {one.worker: Peer(one, NOW, said) for one in members if one.worker != me}
    return known


def say(known: Knowledge, worker: int, **status) -> Peer:
    peer = known.peers[worker]
    peer.status = replace(peer.status, **status)
    return peer


def paces(known: Knowledge, own: float, **others: float) -> None:
    for _ in range(20):
        known.clock.add(own, own)
    for name, seconds in others.items():
        say(known, int(name[1:]), pace=Pace(20, seconds, seconds))


def numbers(membership: Membership | None) -> tuple[int, ...] | None:
    return None if membership is None else membership.numbers


def test_the_lowest_that_is_ready_proposes_all_that_are():
    assert numbers(rules.successor(knowledge(0), NOW)) == (0, 1, 2, 3)
    assert rules.successor(knowledge(1), NOW) is None


def test_the_second_proposes_when_the_first_is_dead_or_silent_or_may_not():
    for change in (
        lambda peer: setattr(peer, "dead", True),
        lambda peer: setattr(peer, "left", True),
    ):
        known = knowledge(1)
        change(known.peers[0])
        assert numbers(rules.successor(known, NOW)) == (1, 2, 3)
    known = knowledge(1)
    say(known, 0, full=False)
    assert numbers(rules.successor(known, NOW)) == (0, 1, 2, 3)
    known = knowledge(1)
    known.clock.add(0.1, 0.1)
    known.peers[0].heard = NOW - 8.0
    assert rules.successor(known, NOW) is None, "it may come until the deadline"
    for worker in (2, 3):
        known.peers[worker].heard = NOW + 11.0
    assert numbers(rules.successor(known, NOW + 11.0)) == (1, 2, 3)


def test_a_worker_that_computes_is_waited_for_until_the_deadline_of_the_step():
    known = knowledge(0)
    known.clock.add(0.1, 0.1)
    say(known, 2, phase="computing")
    later = NOW + 1.9
    for peer in known.peers.values():
        peer.heard = later
    assert rules.successor(known, later) is None
    for peer in known.peers.values():
        peer.heard = NOW + 2.1
    assert numbers(rules.successor(known, NOW + 2.1)) == (0, 1, 3)


def test_the_deadline_grows_with_the_usual_step():
    known = knowledge(0)
    assert known.step_deadline == 4 * LIMITS.rebuild, "nothing is known yet"
    known.clock.add(0.1, 0.1)
    assert known.step_deadline == LIMITS.step
    known.takes_in = True
    assert known.step_deadline == LIMITS.step
    known.clock.restart()
    assert known.step_deadline == LIMITS.rebuild, "the first step with somebody new"
    known.takes_in = False
    for _ in range(3):
        known.clock.add(1.0, 1.0)
    assert known.step_deadline == pytest.approx(5.0)


def test_a_busy_worker_is_waited_for():
    known = knowledge(0)
    known.clock.add(0.1, 0.1)
    say(known, 2, phase="busy")
    for peer in known.peers.values():
        peer.heard = NOW + 50
    assert rules.successor(known, NOW + 50) is None


def test_who_joins_is_taken_in_only_when_nobody_who_may_live_is_left_out():
    known = knowledge(0)
    known.clock.add(0.1, 0.1)
    known.joining[9] = address(9)
    known.peers[9] = Peer(address(9), NOW)
    assert numbers(rules.successor(known, NOW)) == (0, 1, 2, 3, 9)
    known.peers[3].dead = True
    assert numbers(rules.successor(known, NOW)) == (0, 1, 2, 9)
    say(known, 2, phase="computing")
    for peer in known.peers.values():
        peer.heard = NOW + 3
    assert numbers(rules.successor(known, NOW + 3)) == (0, 1)


def test_of_two_servers_that_join_one_is_taken_in_and_none_where_one_serves():
    known = knowledge(0, workers=2)
    for number in (8, 9):
        known.joining[number] = address(number, server=True)
        known.peers[number] = Peer(known.joining[number], NOW)
    assert numbers(rules.successor(known, NOW)) == (0, 1, 8)
    known = knowledge(0, workers=2, servers=1)
    known.joining[9] = address(9, server=True)
    known.peers[9] = Peer(known.joining[9], NOW)
    assert numbers(rules.successor(known, NOW)) == (0, 1, 2)


def test_servers_alone_are_no_group():
    known = knowledge(2, workers=2, servers=1)
    for worker in (0, 1):
        known.peers[worker].dead = True
    assert rules.successor(known, NOW) is None


def test_who_is_to_be_left_out_does_not_propose_and_is_not_waited_for():
    known = knowledge(1)
    known.without = frozenset({0})
    assert numbers(rules.successor(known, NOW)) == (1, 2, 3)
    slow = knowledge(0)
    say(slow, 1, without=(0,))
    assert rules.successor(slow, NOW) is None


def test_who_was_left_behind_by_a_group_that_has_finished_does_not_go_on_alone():
    known = knowledge(0)
    for peer in known.peers.values():
        peer.left = True
    assert numbers(rules.successor(known, NOW)) == (0,)
    say(known, 1, view=4)
    assert rules.successor(known, NOW) is None


def test_a_view_is_broken_by_a_death_a_farewell_an_interruption_and_its_successor():
    known = knowledge(0, phase="computing")
    assert rules.broken(known, 3) == ""
    assert rules.broken(known, 2)
    known.peers[1].dead = True
    assert "worker 1 died" in rules.broken(known, 3)
    known = knowledge(0, phase="computing")
    known.peers[1].left = True
    assert "worker 1 has left" in rules.broken(known, 3)
    known = knowledge(0, phase="computing")
    say(known, 2, phase="recovering")
    assert "worker 2 was interrupted" in rules.broken(known, 3)


def test_an_exchange_is_given_up_at_the_deadline_and_a_little_after_another_has_completed_it():
    known = knowledge(0, phase="exchanging")
    known.clock.add(0.1, 0.1)
    assert rules.late(known, 3, NOW + 1.9) == ""
    assert "not completed within 2 s" in rules.late(known, 3, NOW + 2.1)
    peer = say(known, 1, phase="recovering", step=8)
    peer.recovering_since = NOW
    assert rules.late(known, 3, NOW + 0.05) == ""
    assert rules.late(known, 3, NOW + 0.15)
    say(known, 1, phase="recovering", step=7)
    assert rules.late(known, 3, NOW + 0.05)


def test_a_server_waits_for_workers_however_long_they_compute():
    known = knowledge(2, workers=2, servers=1, phase="computing")
    assert rules.late(known, 3, NOW + 1000) == ""


def test_slow_is_who_computes_three_times_as_long_as_the_others_in_every_step():
    known = knowledge(0)
    paces(known, 0.02, w1=0.02, w2=0.02, w3=0.07)
    assert rules.slow_workers(known) == {3}
    assert rules.coordinator(known, frozenset({3})) == 0
    say(known, 3, pace=Pace(20, 0.03, 0.07))
    assert rules.slow_workers(known) == frozenset(), "not in every step"
    say(known, 3, pace=Pace(19, 0.07, 0.07))
    assert rules.slow_workers(known) == frozenset(), "not long enough"


def test_the_first_worker_may_be_the_slow_one_and_then_the_second_acts():
    known = knowledge(1)
    paces(known, 0.02, w0=0.2, w2=0.02, w3=0.02)
    assert rules.slow_workers(known) == {0}
    assert rules.coordinator(known, frozenset({0})) == 1


def test_milliseconds_are_nobodys_slowness():
    known = knowledge(0)
    paces(known, 0.001, w1=0.001, w2=0.001, w3=0.0049)
    assert rules.slow_workers(known) == frozenset()
    assert rules.typical(known) == pytest.approx(0.001)


def test_a_clock_forgets_paces_in_a_new_view_but_not_how_long_a_step_takes():
    clock = StepClock()
    for seconds in (0.1, 0.3, 0.2):
        clock.add(seconds / 2, seconds)
    assert clock.usual == pytest.approx(0.2)
    assert clock.pace == Pace(3, 0.05, 0.1)
    clock.restart()
    assert clock.usual == pytest.approx(0.2)
    assert clock.pace.steps == 0


def test_pauses_double_up_to_a_limit_and_begin_anew_after_many_steps():
    backoff = Backoff()
    assert [backoff.next() for _ in range(8)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    for _ in range(200):
        backoff.step()
    assert backoff.next() == 30.0
    for _ in range(201):
        backoff.step()
    assert backoff.next() == 0.0


def test_who_is_left_out_returns_when_it_computes_at_most_twice_as_long_as_the_others():
    absence = Absence(Backoff(), lambda: NOW, is_fit=False)
    assert absence.next_try == NOW
    absence.judge(0.25, 0.1)
    assert not absence.is_fit
    assert absence.next_try == NOW + 1.0
    absence.judge(0.19, 0.1)
    assert absence.is_fit


def test_the_next_view_keeps_its_server_while_it_lives():
    members = tuple(address(number) for number in range(3))
    first = Membership.founding(members, 1)
    assert first.server == 1
    assert first.followed_by(members[1:]).server == 1
    assert first.followed_by((members[0], members[2])).server == 0
    assert Membership.founding(members, None).followed_by(members).server is None
    separate = Membership.founding((*members, address(7, server=True)), None)
    assert separate.server == 7
    assert separate.seen_by(7).rank == separate.seen_by(7).size == 3
    assert separate.followed_by(members).server == 0
    assert separate.followed_by(members).followed_by((*members, address(9, server=True))).server == 9
