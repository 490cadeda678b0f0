"""Workers that stand still or are slow, without being dead."""

from __future__ import annotations

import signal

from tests.communication.elastic.cluster import PATIENT, QUICK, Cluster, assert_right

from steepest.communication import AllToAll, Deadlines, ParameterServer, Ring

STEPS = 60


def test_a_stopped_worker_is_left_out_and_rejoins_when_it_continues():
    with Cluster(AllToAll(), pause=0.01, told=True, deadlines=QUICK) as cluster:
        cluster.found(range(3))
        cluster.reach(30)
        cluster.signal(1, signal.SIGSTOP)
        cluster.until(lambda: len(cluster.events("recovered")) == 2)
        assert {event.worker for event in cluster.events("silent")} == {1}
        cluster.signal(1, signal.SIGCONT)
        cluster.until(lambda: cluster.events("rejoined", worker=1, seen_by=0))
        steps = cluster.end()
        assert_right(cluster.finish(), range(3), steps)
        assert cluster.events("left out", seen_by=1, worker=1)
        assert cluster.events("copied", seen_by=1)


def test_of_two_workers_neither_goes_on_while_one_stands_still_and_both_do_when_it_continues():
    with Cluster(Ring(), pause=0.01, told=True, deadlines=QUICK) as cluster:
        cluster.found(range(2))
        cluster.reach(10)
        cluster.signal(0, signal.SIGSTOP)
        cluster.until(lambda: cluster.events("waiting", seen_by=1))
        cluster.listen(1.0)
        assert not cluster.events("recovered")
        cluster.signal(0, signal.SIGCONT)
        cluster.until(lambda: cluster.events("recovered", seen_by=0) or cluster.events("copied", seen_by=0))
        steps = cluster.end()
        assert_right(cluster.finish(), range(2), steps)


def test_a_stopped_worker_that_continues_after_all_others_have_finished_does_not_train_on_by_itself():
    with Cluster(Ring(), steps=STEPS, pause=0.002, told=True, deadlines=QUICK) as cluster:
        cluster.found(range(3))
        cluster.reach(10)
        cluster.signal(2, signal.SIGSTOP)
        cluster.until(lambda: {0, 1} <= set(cluster.results))
        cluster.processes[0].join(10)
        cluster.processes[1].join(10)
        cluster.signal(2, signal.SIGCONT)
        results = cluster.finish()
        assert_right(results, [0, 1], STEPS)
        assert results[2][0] == "lost"
        assert "has ended without this worker" in results[2][2]


def test_a_worker_that_is_ten_times_slower_is_left_out_and_returns_when_it_is_fast_again():
    with Cluster(Ring(), pause=0.015, told=True) as cluster:
        cluster.found(range(3))
        cluster.reach(30)
        cluster.join(7, slowness=0.15, fast_after="left out")
        cluster.until(lambda: cluster.events("left out", worker=7, seen_by=0))
        joined, left_out = (cluster.events(kind, worker=7, seen_by=0)[0].step for kind in ("joined", "left out"))
        assert left_out - joined >= 20
        cluster.until(lambda: cluster.events("rejoined", worker=7, seen_by=0))
        steps = cluster.end()
        assert_right(cluster.finish(), [0, 1, 2, 7], steps)
        assert cluster.events("slow", worker=7)


def test_a_worker_that_is_late_beyond_the_deadline_is_left_out_of_the_step_and_comes_back():
    late = Deadlines(heartbeat=0.05, step=0.3, rebuild=1.0, give_up=20.0)
    with Cluster(ParameterServer(0), pause=0.015, told=True, deadlines=late) as cluster:
        cluster.found(range(3))
        cluster.reach(5)
        cluster.join(9, slowness=1.5, fast_after="left out")
        cluster.until(lambda: len(cluster.events("copied", seen_by=9)) > 1)
        steps = cluster.end()
        assert_right(cluster.finish(), [0, 1, 2, 9], steps)
        assert len(cluster.events("left out", worker=9, seen_by=9)) == 1


def test_a_long_validation_is_no_slowness():
    with Cluster(Ring(), steps=STEPS, pause=0.002, told=True, deadlines=QUICK, validates_at={0: 20, 1: 40}) as cluster:
        cluster.found(range(3))
        results = cluster.finish()
        assert_right(results, range(3), STEPS)
        assert not cluster.events("left out")
        assert QUICK.step < 1.0


def test_a_worker_whose_own_code_fails_is_gone_and_the_others_go_on():
    with Cluster(Ring(), steps=STEPS, pause=0.005, told=True, fails={1: 20}) as cluster:
        cluster.found(range(3))
        results = cluster.finish()
        assert_right(results, [0, 2], STEPS)
        assert "the worker's own error" in results[1][2]
        assert cluster.events("left", worker=1)
        assert not cluster.events("died")


def test_a_worker_that_waits_for_others_can_be_interrupted_at_once():
    with Cluster(Ring(), pause=0.01, told=True) as cluster:
        cluster.found(range(2))
        cluster.reach(10)
        cluster.signal(0, signal.SIGSTOP)
        cluster.listen(0.3)
        before = cluster.signal(1, signal.SIGINT)
        cluster.until(lambda: 1 in cluster.results)
        assert cluster.log[-1][0] - before < PATIENT.step - 1.0, "it need not wait for any deadline"
        assert "KeyboardInterrupt" in cluster.results[1][2]
