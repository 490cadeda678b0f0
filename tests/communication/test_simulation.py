"""A simulated run: closed formulas where there are any, the obvious simulation for few workers, exact counts, speed."""

import time

import numpy as np
import pytest
import torch
from tests.communication.reference_simulation import exchange_end, simulated

from steepest.communication import (
    AllReduce,
    AllToAll,
    Cluster,
    Deadlines,
    Faults,
    Heterogeneity,
    Host,
    ParameterServer,
    Protocol,
    Ring,
    predict,
    simulate,
)
from steepest.communication._simulation.draws import Draws
from steepest.communication._simulation.exchange import BINS, Exchange, _latest

SCHEMES = (AllToAll(), ParameterServer(), ParameterServer(server=0), Ring(), AllReduce())
OWN = SCHEMES[:4]
NETWORK = Cluster(6, latency=1e-3, bandwidth=1e8, compute=0.02)
names = pytest.mark.parametrize("scheme", OWN, ids=lambda scheme: repr(scheme))


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("p", [7, 10_000_000])
def test_equal_workers_without_faults_take_computing_and_prediction(scheme, p):
    protocol = Protocol(overhead=1e-4, pieces=((65536, 1e7),), incast=1.4, factors={"Ring": (1.5, 0.8)})
    cluster = Cluster(5, latency=1e-3, bandwidth=1e8, protocol=protocol, host=Host(overhead=1e-4), compute=0.3)
    run = simulate(scheme, cluster, p, steps=20)
    each = 0.3 + predict(scheme, cluster, p)
    assert run.step_seconds == pytest.approx(np.full(20, each), rel=1e-9)
    assert run.seconds == pytest.approx(20 * each, rel=1e-9)
    assert (run.messages, run.bytes) == (20 * scheme.cost(5, p).messages, 20 * scheme.cost(5, p).bytes)
    assert run.goodput == pytest.approx(0.3 / each)


@names
@pytest.mark.parametrize("n", [2, 3, 7])
def test_an_exchange_of_workers_that_are_ready_at_different_times_is_one_of_its_messages(scheme, n):
    rng = np.random.default_rng(n)
    for spread in (0.0, 0.001, 0.01, 1.0):
        ready = rng.uniform(0, spread, n)
        size = 4e5  # less than a piece
        cluster = Cluster(n, latency=1e-3, bandwidth=1e8)
        expected = exchange_end(scheme, cluster, size, ready.tolist(), [1.0] * n)
        assert Exchange(scheme, cluster, size, np.ones(n)).end(ready) == pytest.approx(expected, rel=1e-9)


@names
def test_an_exchange_over_different_links_is_one_of_its_messages_or_for_a_ring_bounded_by_them(scheme):
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = int(rng.integers(2, 8))
        links, ready = np.exp(rng.normal(size=n)), rng.uniform(0, 0.02, n)
        cluster = Cluster(n, latency=1e-3, bandwidth=1e8)
        found = Exchange(scheme, cluster, 4e5, links).end(ready)
        expected = exchange_end(scheme, cluster, 4e5, ready.tolist(), links.tolist())
        if isinstance(scheme, Ring):
            assert expected <= found * (1 + 1e-12)
            assert found <= expected + ready.max() - ready.min()
            together = np.full(n, 0.5)
            expected = exchange_end(scheme, cluster, 4e5, together.tolist(), links.tolist())
            found = Exchange(scheme, cluster, 4e5, links).end(together)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1.0, 50.0, 1e4])
def test_a_long_queue_is_served_as_if_it_were_sorted(spread):
    rng = np.random.default_rng(0)
    count = 10 * BINS + 1
    ready, service = spread * rng.standard_exponential(count) + 3, rng.uniform(0, 0.01, count)
    order = np.argsort(ready)
    end = 0.0
    for came, needed in zip(ready[order], service[order], strict=True):
        end = max(end, came) + needed
    assert _latest(ready, service) == pytest.approx(end, rel=1e-12)


DIFFERENT = Heterogeneity(speed=0.2, jitter=0.3, straggling=0.02, slowdown=30.0, slow_steps=8.0)
FAULTS = {
    "deaths": Faults(between=10.0, silent=0.3, silence=1.0, replacement=0.7),
    "none replaced": Faults(between=60.0, rebuild=0.05),
    "slow": Faults(deadlines=Deadlines(heartbeat=0.01, step=0.1, patience=4.0), rebuild=0.02),
    "persistently slow": Faults(deadlines=Deadlines(step=100.0, rebuild=200.0), rebuild=0.02),
    "all": Faults(
        between=20.0,
        silent=0.5,
        silence=0.5,
        replacement=0.4,
        deadlines=Deadlines(heartbeat=0.01, step=0.1, patience=3.0),
        state=2.5,
    ),
}


@names
@pytest.mark.parametrize("case", FAULTS)
def test_a_run_with_faults_is_the_obvious_simulations(scheme, case):
    steps, slow = 150, case == "persistently slow"
    kind = Heterogeneity(straggling=0.003, slowdown=5.0, slow_steps=60.0) if slow else DIFFERENT
    cluster = Cluster(6, latency=1e-3, bandwidth=1e8, compute=0.02, heterogeneity=kind)
    run = simulate(scheme, cluster, 50_000, steps, faults=FAULTS[case], seed=5)
    ends, members, sent, state, events = simulated(scheme, cluster, 50_000, steps, FAULTS[case], seed=5)
    assert np.cumsum(run.step_seconds) == pytest.approx(ends, rel=1e-9)
    assert run.members.tolist() == members
    assert (run.bytes, run.state_bytes, run.steps) == (sent, state, len(ends))
    told = [(each.kind, each.time, each.worker) for each in run.events if each.kind != "recovered"]
    assert [(kind, worker) for kind, _, worker in told] == [(kind, worker) for kind, _, worker in events]
    assert [time for _, time, _ in told] == pytest.approx([time for _, time, _ in events], rel=1e-9)
    assert events, "the case should have faults"
    of_kind = {
        kind: sum(each == kind for each, *_ in events) for kind in ("died", "silent", "slow", "joined", "rejoined")
    }
    assert run.deaths == of_kind["died"] + of_kind["silent"]
    assert run.left_out == of_kind["slow"]
    assert run.joined == of_kind["joined"] + of_kind["rejoined"]
    assert run.repeated <= run.deaths + run.left_out
    assert sum(run.spent.values()) == pytest.approx(run.seconds)


def test_a_worker_is_slow_for_as_many_steps_as_drawn_and_as_often_as_its_probability_says():
    kind = Heterogeneity(straggling=0.01, slowdown=7.0, slow_steps=4.0)
    draws, members = Draws(1000, kind, seed=0), np.arange(1000)
    slow, spans = 0, []
    lasting = np.zeros(1000, dtype=int)
    for _ in range(500):
        is_slow = draws.computing(members, 1.0) == 7.0
        draws.passed()
        slow += int(is_slow.sum())
        spans += lasting[~is_slow & (lasting > 0)].tolist()
        lasting = np.where(is_slow, lasting + 1, 0)
    assert np.mean(spans) == pytest.approx(4.0, rel=0.1)
    assert slow / 500_000 == pytest.approx(0.01 * 4, rel=0.1)
    plain = Draws(1000, Heterogeneity(speed=0.5, jitter=0.2), seed=0)
    first, second = plain.computing(members, 2.0), plain.computing(members, 2.0)
    assert np.log(first / second).std() == pytest.approx(0.2 * 2**0.5, rel=0.1)
    assert np.log(first / 2).std() == pytest.approx((0.5**2 + 0.2**2) ** 0.5, rel=0.1)
    assert np.log(Draws(1000, Heterogeneity(links=0.3), seed=0).links).std() == pytest.approx(0.3, rel=0.1)


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    cluster = Cluster(50, latency=1e-4, bandwidth=1e9, compute=0.1, heterogeneity=DIFFERENT)
    first, again, other = (simulate(Ring(), cluster, 1000, 50, faults=FAULTS["all"], seed=seed) for seed in (1, 1, 2))
    assert first.step_seconds.tolist() == again.step_seconds.tolist()
    assert first.events == again.events
    assert first.step_seconds.tolist() != other.step_seconds.tolist()


def test_shares_grow_where_workers_are_missing():
    faults = Faults(between=6 * 2.0, detection=0.0, rebuild=0.0)
    run = simulate(Ring(), Cluster(6, latency=0, bandwidth=float("inf"), compute=0.1), 1, 100, faults=faults, seed=1)
    assert run.members[-1] < 6
    undisturbed = np.isclose(run.step_seconds, 0.1 * 6 / run.members)
    assert undisturbed.sum() >= 100 - run.deaths


def test_a_run_ends_when_nobody_is_left_or_no_step_can_be_completed():
    alone = simulate(Ring(), NETWORK, 10, 10**6, faults=Faults(between=1.0), seed=0)
    assert (alone.deaths, alone.steps < 10**6) == (6, True)
    endless = Faults(between=1e-3, replacement=0.0, rebuild=0.0, detection=0.0)
    assert simulate(Ring(), NETWORK, 10, 10, faults=endless).steps < 10


def test_a_dead_server_is_replaced_by_a_worker_and_then_by_a_server():
    faults = Faults(between=3.0, replacement=0.5, rebuild=0.01)
    cluster = Cluster(4, latency=0, bandwidth=1e9, compute=0.01)
    run = simulate(ParameterServer(), cluster, 10, 500, faults=faults, seed=3)
    of_server = [each for each in run.events if each.worker == 4]
    assert [each.kind for each in of_server[:2]] == ["died", "joined"]
    assert {each.detail for each in of_server} == {"the server"}


def test_counts_are_exact_where_floating_point_numbers_are_not():
    n, p, steps = 100_000, 10**12 + 1, 3
    run = simulate(Ring(), Cluster(n, latency=0, bandwidth=1e15), p, steps, dtype=torch.bfloat16)
    assert run.bytes == steps * 2 * (n - 1) * p * 2
    assert run.messages == steps * 2 * n * (n - 1)


@pytest.mark.slow
def test_a_hundred_thousand_workers_take_a_thousand_steps_in_ten_seconds():
    kind = Heterogeneity(speed=0.03, links=0.05, jitter=0.03, straggling=1e-6, slowdown=10, slow_steps=30)
    cluster = Cluster(100_000, latency=5e-6, bandwidth=50e9, compute=5.0, heterogeneity=kind)
    faults = Faults.of_job(100_000, between=14 * 60, silent=0.2, replacement=120, rebuild=10)
    for scheme in SCHEMES:
        begun = time.process_time()
        run = simulate(scheme, cluster, 1_000_000, 1000, faults=faults)
        assert time.process_time() - begun < 10
        assert run.steps == 1000
