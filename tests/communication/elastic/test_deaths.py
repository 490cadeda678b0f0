"""Workers that are really killed: the others go on, and the result is that of an undisturbed training."""

from __future__ import annotations

import pytest
from tests.communication.elastic.cluster import Cluster, assert_right

from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring

SCHEMES = [Ring(), AllToAll(), ParameterServer(0), pytest.param(AllReduce(), marks=pytest.mark.slow)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_two_of_four_workers_die_one_after_the_other_and_one_joins(scheme):
    with Cluster(scheme, pause=0.01, told=True) as cluster:
        cluster.found(range(4))
        cluster.reach(10)
        cluster.signal(0)
        cluster.until(lambda: len(cluster.events("recovered")) >= 3)
        cluster.signal(2)
        cluster.until(lambda: len(cluster.events("recovered")) >= 5)
        cluster.join(7)
        cluster.until(lambda: cluster.events("copied", seen_by=7))
        steps = cluster.end()
        results = cluster.finish()
    assert_right(results, [1, 3, 7], steps)
    assert {event.worker for event in cluster.events("died")} == {0, 2}


@pytest.mark.parametrize("scheme", [Ring(), pytest.param(ParameterServer(0), marks=pytest.mark.slow)], ids=repr)
def test_deaths_during_recovery_formation_and_copies_end_in_a_right_state(scheme):
    with Cluster(scheme, pause=0.003, told=True, ballast=1_000_000) as cluster:
        cluster.found(range(5))
        cluster.reach(5)
        cluster.signal(0)  # hosts the store, and serves
        cluster.listen(0.01)
        cluster.signal(1)  # while the others recover
        cluster.join(8)
        cluster.until(lambda: cluster.events("joined", worker=8))
        cluster.signal(8)  # while it copies the state
        cluster.join(9)
        cluster.until(lambda: cluster.events("copied", seen_by=9))
        cluster.signal(2)
        cluster.signal(3)
        steps = cluster.end()
        results = cluster.finish()
    assert_right(results, [4, 9], steps)


def test_a_death_while_the_group_is_formed():
    with Cluster(Ring(), steps=30, told=True) as cluster:
        cluster.found(range(3), killed=2)
        assert_right(cluster.finish(), [0, 1], 30)
