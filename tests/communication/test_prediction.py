"""What a prediction consists of: the formulas of each scheme, the terms of software and machines, the choice."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steepest.communication import (
    AllReduce,
    AllToAll,
    Cluster,
    Faults,
    Host,
    Measurement,
    ParameterServer,
    Protocol,
    Ring,
    busbw,
    choose,
    predict,
    simulate,
)
from steepest.errors import InvalidArgument

LATENCY, BANDWIDTH, MEBIBYTE = 1e-4, 1e9, 1 << 20
PLAIN = Cluster(8, latency=LATENCY, bandwidth=BANDWIDTH)
SCHEMES = (AllToAll(), ParameterServer(), ParameterServer(server=0), Ring(), AllReduce())


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("p", [0, 1, 1000, 250_000])
def test_without_software_and_pieces_the_time_is_latency_and_bandwidth(n, p):
    each = 4 * p / BANDWIDTH  # no more than a mebibyte, so that a server begins to answer when all has arrived
    expected = {
        AllToAll(): LATENCY + (n - 1) * each,
        ParameterServer(): 2 * LATENCY + 2 * n * each,
        ParameterServer(server=1): 2 * LATENCY + 2 * (n - 1) * each,
        Ring(): 2 * (n - 1) * (LATENCY + each / n),
        AllReduce(): 2 * (n - 1) * (LATENCY + each / n),
    }
    for scheme, seconds in expected.items():
        assert predict(scheme, PLAIN, p, n) == pytest.approx(seconds, rel=1e-12)


def test_a_server_sends_pieces_back_while_later_ones_arrive():
    p, n = 10_000_000, 4
    arriving = n * 4 * p / BANDWIDTH
    last_pieces = n * MEBIBYTE / BANDWIDTH
    assert predict(ParameterServer(), PLAIN, p, n) == pytest.approx(2 * LATENCY + arriving + last_pieces, rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES[2:])
def test_one_worker_alone_takes_no_time(scheme):
    assert predict(scheme, PLAIN, 1000, 1) == 0
    assert busbw(1.0, 1000, 1) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("machine", [Host(), Host(overhead=1e-4), Host(bandwidth=1e9)])
def test_one_worker_alone_takes_no_time_on_a_machine_either(scheme, machine):
    cluster = Cluster(1, latency=LATENCY, bandwidth=BANDWIDTH, host=machine)
    alone = predict(scheme, cluster, 1000)  # warnings are errors
    assert alone > 0 if scheme == ParameterServer() else alone == 0
    assert simulate(scheme, cluster, 1000, steps=2).seconds == pytest.approx(2 * alone)
    with_others = predict(scheme, cluster, 1000, np.array([1, 4]))
    assert with_others.tolist() == [alone, predict(scheme, cluster, 1000, 4)]


def test_a_server_outside_of_the_workers_is_refused_as_by_the_cost():
    outside, few = ParameterServer(server=3), Cluster(3, latency=LATENCY, bandwidth=BANDWIDTH)
    for call in (
        lambda: outside.cost(3, 10),
        lambda: predict(outside, few, 10),
        lambda: predict(outside, PLAIN, 10, np.array([8, 3])),
        lambda: choose(few, 10, schemes=[Ring(), outside]),
        lambda: simulate(outside, few, 10, steps=1),
        lambda: Measurement(outside, workers=3, parameters=10, seconds=1.0),
    ):
        with pytest.raises(InvalidArgument, match=r"server must be a rank of the 3 workers, 0 to 2 \(got 3\)"):
            call()
    assert predict(outside, few, 10, 4) == predict(ParameterServer(server=0), few, 10, 4)
    assert predict(outside, few, 10, np.array([], dtype=int)).shape == (0,)


def test_arrays_give_what_single_numbers_give():
    p, n = np.array([1, 1000, 10**7]), np.array([[2], [5], [100_000]])
    for scheme in SCHEMES:
        together = predict(scheme, PLAIN, p, n)
        assert together.shape == (3, 3)
        for i in range(3):
            for j in range(3):
                assert together[i, j] == predict(scheme, PLAIN, int(p[j]), int(n[i, 0]))
    with pytest.raises(InvalidArgument, match="go together"):
        predict(Ring(), PLAIN, np.arange(3), np.arange(1, 3))


@given(
    p=st.integers(0, 10**9),
    n=st.integers(2, 1000),
    pieces=st.lists(st.tuples(st.floats(1, 1e8), st.floats(1e6, 1e11)), max_size=3, unique_by=lambda pair: pair[0]),
    scheme=st.sampled_from(SCHEMES),
)
def test_a_larger_gradient_never_takes_less_time(p, n, pieces, scheme):
    protocol = Protocol(overhead=1e-5, pieces=tuple(sorted(pieces)), incast=1.5)
    cluster = Cluster(4, latency=LATENCY, bandwidth=BANDWIDTH, protocol=protocol, host=Host(overhead=1e-5))
    smaller, larger = predict(scheme, cluster, p, n), predict(scheme, cluster, p + 1 + p // 7, n)
    assert 0 < smaller <= larger * (1 + 1e-12)


def test_the_bandwidth_may_depend_on_the_size_of_a_message():
    cluster = Cluster(2, latency=0, bandwidth=1e9, protocol=Protocol(pieces=((1000, 1e6), (4000, 1e8))))
    seconds = [predict(AllToAll(), cluster, p, 2) for p in (100, 250, 1000, 2000)]
    assert seconds == pytest.approx([4e-4, 1e-3, 1e-3 + 3e-5, 1e-3 + 3e-5 + 4e-6])


def test_what_workers_of_one_machine_share_grows_with_all_messages_of_it():
    n, p = 4, 10_000
    for per_machine, messages in ((None, 12), (2, 6), (1, 3)):
        cluster = Cluster(n, latency=0, bandwidth=float("inf"), host=Host(workers=per_machine, overhead=1e-3))
        assert predict(AllToAll(), cluster, p) == pytest.approx(messages * 1e-3)
    both = Cluster(n, latency=0.01, bandwidth=float("inf"), host=Host(overhead=1e-3))
    assert max(0.01, 0.012) < predict(AllToAll(), both, p) < 0.01 + 0.012


def test_all_workers_at_once_meet_incast_at_a_server_only():
    cluster = Cluster(4, latency=0, bandwidth=1e9, protocol=Protocol(incast=3.0))
    for scheme in SCHEMES:
        more = predict(scheme, cluster, 1000) - predict(scheme, PLAIN, 1000, 4)
        more += LATENCY * {"AllToAll": 1, "ParameterServer": 2}.get(type(scheme).__name__, 6)
        arriving = 4 - (getattr(scheme, "server", None) is not None)
        assert more == pytest.approx(arriving * 2 * 4e-6 if isinstance(scheme, ParameterServer) else 0, abs=1e-15)


def test_a_backend_with_trees_needs_logarithmically_many_rounds():
    cluster = Cluster(1024, latency=LATENCY, bandwidth=BANDWIDTH, protocol=Protocol(all_reduce="tree"))
    assert predict(AllReduce(), cluster, 0) == pytest.approx(2 * 10 * LATENCY)
    assert predict(AllReduce(), cluster, 1000, 1) == 0
    large = 10**12
    assert predict(AllReduce(), cluster, large) == predict(Ring(), cluster, large)


def test_factors_of_a_scheme_multiply_its_messages_and_its_bytes():
    protocol = Protocol(factors={"Ring": (2.0, 3.0)})
    cluster = Cluster(2, latency=LATENCY, bandwidth=BANDWIDTH, protocol=protocol)
    assert predict(Ring(), cluster, 1000) == pytest.approx(2 * 2 * LATENCY + 3 * 2 * 2e-6)
    assert predict(AllToAll(), cluster, 1000) == predict(AllToAll(), PLAIN, 1000, 2)
    assert pickle.loads(pickle.dumps(cluster)) == cluster
    assert hash(cluster) == hash(pickle.loads(pickle.dumps(cluster)))


@pytest.mark.parametrize("n", [2, 16])
def test_the_bus_bandwidth_is_that_of_nccl_tests(n):
    # An all-reduce that reaches the bandwidth B of every link takes 2 (n - 1) / n S / B seconds.
    p = 10**8
    assert busbw(predict(Ring(), Cluster(n, latency=0, bandwidth=7e9), p), p, n) == pytest.approx(7e9)
    assert busbw(np.array([1.0, 2.0]), p, n, dtype=torch.float16).tolist() == [4e8 * (n - 1) / n, 2e8 * (n - 1) / n]
    with pytest.raises(InvalidArgument, match="seconds"):
        busbw(np.array([1.0, -2.0]), p, n)


def test_the_choice_is_by_predicted_time_and_says_by_how_much():
    small, large = (choose(PLAIN, p, 8) for p in (10, 10**7))
    assert (small.best, large.best) == (AllToAll(), Ring())
    assert large.seconds == tuple(sorted(large.seconds))
    assert large.seconds[0] == predict(Ring(), PLAIN, 10**7, 8)
    ratio = predict(AllToAll(), PLAIN, 10**7, 8) / large.seconds[0]
    assert f"AllToAll() takes {ratio:.2f} times as long" in str(large)


def test_a_choice_within_five_percent_is_a_tie():
    cluster = Cluster(8, latency=LATENCY, bandwidth=BANDWIDTH, compute=10.0)
    choice = choose(cluster, 1000)
    assert len(choice.tied) == 4
    assert "tie (within 5%)" in str(choice)


def test_a_choice_for_one_worker_says_what_takes_no_time():
    choice = choose(Cluster(1, latency=1e-4, bandwidth=1e9), 10**6)
    server = predict(ParameterServer(), Cluster(1, latency=1e-4, bandwidth=1e9), 10**6)
    tied = "AllToAll() and ParameterServer(server=0) and Ring() tie (within 5%)"
    assert str(choice) == f"{tied}: 0 s per step; ParameterServer(server=None) takes {server:.4g} s"


def test_deaths_make_long_steps_longer_and_very_long_ones_endless():
    faults = Faults(between=8 * 100.0, detection=0.5, rebuild=1.5)  # one death in 100 s
    short = Cluster(8, latency=0, bandwidth=1e12, compute=1.0)
    expected = (np.exp(1 / 100) - 1) * (100 + 2)
    assert choose(short, 1, schemes=[Ring()], faults=faults).seconds[0] == pytest.approx(expected)
    endless = choose(Cluster(8, latency=0, bandwidth=1e12, compute=1e6), 1, schemes=[Ring(), AllToAll()], faults=faults)
    assert "too frequent for any" in str(endless)
    slow = choose(Cluster(1000, latency=0, bandwidth=1e9), 10**9, schemes=[Ring(), AllToAll()], faults=faults)
    assert "AllToAll() never completes a step" in str(slow)


def test_ethernet_leaves_what_tcp_leaves():
    cluster = Cluster.ethernet(3, gigabits=1)
    assert (cluster.workers, cluster.bandwidth) == (3, 125e6 * 1448 / 1538)
