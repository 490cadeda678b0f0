"""Exchanges between hosts with limited links: where the ring's advantage is, which loopback cannot show."""

import pytest
from tests.communication.namespaces import ETHERNET, hosts, missing

from steepest.communication import AllToAll, Cluster, ParameterServer, Ring, measure_cluster, predict

SCHEMES = [AllToAll(), ParameterServer(server=0), Ring()]


@pytest.fixture(scope="module", autouse=True)
def _namespaces():
    if why_not := missing():
        pytest.skip(why_not)


def measured(sizes, counts, seconds):
    return measure_cluster(SCHEMES, sizes, counts, seconds=seconds)


def test_between_two_hosts_an_exchange_takes_what_the_bandwidth_of_a_link_says():
    p, megabits = 200_000, 200
    with hosts(2, megabits=megabits) as two:
        before = two.sent()
        found = two.run(measured, [p], [2], 0.3, timeout=60)[0]
        sent = [after - at_first for after, at_first in zip(two.sent(), before, strict=True)]
    cluster = Cluster(2, latency=0, bandwidth=megabits * 1e6 / 8 * ETHERNET)
    assert [each.hosts for each in found] == [2, 2, 2]
    for each in found:
        assert 0.8 < each.seconds / predict(each.scheme, cluster, p) < 2.0
    assert min(sent) > 3 * 4 * p


@pytest.mark.slow
def test_the_more_workers_the_more_a_ring_is_ahead():
    p, megabits = 500_000, 100
    with hosts(4, megabits=megabits) as four:
        found = four.run(measured, [p], [2, 4], 20.0, timeout=240)[0]
    seconds = {(each.workers, each.scheme): each.seconds for each in found}
    cluster = Cluster(4, latency=1e-4, bandwidth=megabits * 1e6 / 8 * ETHERNET)
    for (n, scheme), each in seconds.items():
        assert 0.8 < each / predict(scheme, cluster, p, n) < 1.6
    for other in SCHEMES[:2]:
        assert seconds[4, other] > 1.8 * seconds[4, Ring()]
        assert seconds[2, other] < 1.8 * seconds[2, Ring()]
