"""Processes that a caller starts, hears and ends."""

from __future__ import annotations

import os
import signal
import time

import pytest
from tests.communication import lives
from tests.communication.lives import gone, wait_until

from steepest.communication._child import Raised
from steepest.communication._processes import Ended, Processes
from steepest.errors import WorkerFailed


def test_messages_come_in_order_and_the_end_comes_last():
    with Processes() as processes:
        first = processes.start(lives.echoes, 3, name="first")
        second = processes.start(lives.echoes, 1, name="second")
        first.connection.send(20)
        second.connection.send("ab")
        heard = {"first": [], "second": []}
        for worker, message in processes.messages(timeout=30):
            heard[worker.name].append(message)
    assert heard["first"] == [("number", 0), ("number", 1), ("number", 2), 40, Ended(0)]
    assert heard["second"] == [("number", 0), "abab", Ended(0)]
    assert (first.exitcode, first.alive) == (0, False)


def test_an_error_comes_after_what_was_sent_before_with_its_traceback():
    with Processes() as processes:
        processes.start(lives.fails, name="the process")
        (_, before), (worker, ended) = processes.messages(timeout=30)
    assert before == "before"
    assert ended.exitcode == 1
    assert ended.traceback.splitlines()[-1] == "KeyError: 'missing'"
    assert "_child.py" not in ended.traceback
    failure = ended.failure(worker.name)
    assert isinstance(failure, WorkerFailed)
    assert str(failure).startswith("the process raised KeyError: 'missing'.")


def test_a_message_that_ends_with_a_full_stop_is_told_with_one():
    failure = Ended(1, Raised("ValueError: no such thing.", "...", "ValueError", 0.0)).failure("worker 2")
    assert str(failure) == "worker 2 raised ValueError: no such thing. The traceback of that process stands above."


def test_listening_ends_after_its_timeout_and_can_be_taken_up_again():
    with Processes() as processes:
        worker = processes.start(lives.hears, name="a")
        assert [message for _, message in processes.messages(timeout=0.3)] in ([worker.pid], [])
        worker.connection.send("done")
        assert [message for _, message in processes.messages(timeout=30)][-1] == Ended(0)
        assert list(processes.messages(timeout=30)) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_told_as_such(number):
    with Processes() as processes:
        worker = processes.start(lives.hears, name="worker 3")
        for _, message in processes.messages(timeout=30):
            if message == worker.pid:
                os.kill(worker.pid, number)
            else:
                assert message == Ended(-number)
                assert str(message.failure("worker 3")) == f"worker 3 was killed by {number.name}."


@pytest.mark.parametrize("first", [None, signal.SIGSTOP], ids=["running", "stopped"])
def test_all_are_ended_at_once(first):
    with Processes() as processes:
        workers = [processes.start(lives.hears, name=str(number)) for number in range(3)]
        heard = processes.messages(timeout=30)
        pids = {next(heard)[1] for _ in workers}
        if first is not None:
            os.kill(workers[1].pid, first)
        start = time.monotonic()
    assert time.monotonic() - start < 1.9
    assert pids == {worker.pid for worker in workers}
    wait_until(lambda: all(map(gone, pids)))


def test_one_that_ignores_sigterm_is_killed_after_two_seconds():
    with Processes() as processes:
        processes.start(lives.ignores_sigterm, name="a")
        _, pid = next(processes.messages(timeout=30))
        start = time.monotonic()
    assert 1.9 < time.monotonic() - start < 6
    wait_until(lambda: gone(pid))
