"""Workers that are really killed: the others go on, and the result is that of an undisturbed training."""

from __future__ import annotations

import pytest
from tests.communication.elastic.cluster import Cluster, assert_right

from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring

SCHEMES = [Ring(), AllToAll(), ParameterServer(0), AllReduce()]


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_two_of_four_workers_die_one_after_the_other_and_one_joins(scheme):
    steps = 60
    with Cluster(scheme, steps=steps, pause=0.005, told=True) as cluster:
        cluster.found(range(4))
        cluster.reach(10)
        cluster.signal(0)
        cluster.until(lambda: len(cluster.events("recovered")) >= 3)
        cluster.signal(2)
        cluster.until(lambda: len(cluster.events("recovered")) >= 5)
        cluster.join(7)
        results = cluster.finish()
    assert_right(results, [1, 3, 7], steps)
    assert {event.worker for event in cluster.events("died")} == {0, 2}
    assert cluster.events("copied", seen_by=7)
