"""The cases of a membership: it stays, shrinks, grows, does both at once, falls apart and comes together again."""

from __future__ import annotations

import signal

from tests.communication.elastic.cluster import QUICK, Cluster, assert_right

from steepest.communication import ParameterServer, Ring

STEPS = 60


def test_identity_a_step_that_fails_without_a_death_is_repeated_by_the_same_workers():
    with Cluster(Ring(), steps=STEPS, pause=0.005, told=True) as cluster:
        cluster.found(range(3))
        cluster.reach(10)
        cluster.connections[1].send([])  # its connections break, and nothing else
        results = cluster.finish()
        assert_right(results, range(3), STEPS)
        assert len(cluster.events("recovered")) >= 3
        assert not cluster.events("left out")


def test_shrink_two_die_at_once():
    with Cluster(Ring(), steps=STEPS, pause=0.005, told=True) as cluster:
        cluster.found(range(4))
        cluster.reach(10)
        cluster.signal(0)
        cluster.signal(3)
        assert_right(cluster.finish(), [1, 2], STEPS)


def test_shrink_to_one():
    with Cluster(Ring(), steps=STEPS, pause=0.005, told=True) as cluster:
        cluster.found(range(3))
        cluster.reach(10)
        cluster.signal(0)
        cluster.signal(1)
        assert_right(cluster.finish(), [2], STEPS)


def test_grow_two_join_one_who_is_alone():
    with Cluster(Ring(), pause=0.01, told=True) as cluster:
        cluster.found([4])
        cluster.reach(5)
        cluster.join(5)
        cluster.join(2)
        cluster.until(lambda: cluster.events("joined", worker=5, seen_by=4) and cluster.events("joined", worker=2))
        steps = cluster.end()
        assert_right(cluster.finish(), [2, 4, 5], steps)


def test_shrink_and_grow_at_once():
    with Cluster(Ring(), pause=0.01, told=True, deadlines=QUICK) as cluster:
        cluster.found(range(3))
        cluster.reach(10)
        # A member that stands still keeps the joiner waiting, until it dies: then both happen in one change.
        cluster.signal(1, signal.SIGSTOP)
        cluster.join(9)
        cluster.signal(1)
        cluster.until(lambda: cluster.events("joined", worker=9, seen_by=0))
        steps = cluster.end()
        assert_right(cluster.finish(), [0, 2, 9], steps)


def test_a_split_the_majority_goes_on_and_the_others_come_back():
    with Cluster(Ring(), pause=0.01, told=True, deadlines=QUICK) as cluster:
        cluster.found(range(5))
        cluster.reach(10)
        cluster.cut({0, 1}, {2, 3, 4})
        cluster.until(lambda: all(cluster.events("recovered", seen_by=worker) for worker in (2, 3, 4)))
        cluster.until(lambda: all(cluster.events("waiting", seen_by=worker) for worker in (0,)))
        assert {event.worker for event in cluster.events("left out", seen_by=3)} == {0, 1}
        cluster.cut({0, 1, 2, 3, 4})
        cluster.until(lambda: all(cluster.events("rejoined", seen_by=3, worker=worker) for worker in (0, 1)))
        steps = cluster.end()
        assert_right(cluster.finish(), range(5), steps)
        assert cluster.events("copied", seen_by=0)


def test_a_split_into_equal_halves_nobody_goes_on_until_they_are_together_again():
    with Cluster(Ring(), steps=STEPS, pause=0.005, told=True, deadlines=QUICK) as cluster:
        cluster.found(range(4))
        cluster.reach(10)
        cluster.cut({0, 3}, {1, 2})
        cluster.until(lambda: all(cluster.events("waiting", seen_by=worker) for worker in (0, 1)))
        before = cluster.steps
        assert not cluster.events("recovered")
        cluster.cut({0, 1, 2, 3})
        assert_right(cluster.finish(), range(4), STEPS)
        assert before < STEPS


def test_the_server_dies_among_the_workers_and_as_a_process_of_its_own_and_is_replaced():
    with Cluster(ParameterServer(1), steps=STEPS, pause=0.005, told=True) as cluster:
        cluster.found(range(3))
        cluster.reach(10)
        cluster.signal(1)
        assert_right(cluster.finish(), [0, 2], STEPS)
    with Cluster(ParameterServer(), pause=0.01, told=True) as cluster:
        cluster.found(range(3), servers=[3])
        cluster.reach(10)
        cluster.signal(3)
        cluster.until(lambda: len(cluster.events("recovered")) == 3)
        cluster.join(8, role="server")
        cluster.until(lambda: cluster.events("joined", worker=8))
        steps = cluster.end()
        results = cluster.finish()
        assert_right(results, range(3), steps)
        assert results[8] == ("served", 8)
