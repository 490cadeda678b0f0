"""What travels between members, and how the end of a process is proven."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from steepest._alive import started
from steepest.communication._membership import consensus
from steepest.communication._membership.identity import Identity, watch
from steepest.communication._membership.membership import Address, Membership
from steepest.communication._membership.mesh import Mesh
from steepest.communication._membership.messages import (
    About,
    Ask,
    Frames,
    Hello,
    Join,
    Latest,
    Leaving,
    Pace,
    Status,
    encode,
)
from steepest.communication._membership.runner import ABANDONED, Runner

ADDRESS = Address(3, "127.0.0.1", 1, 2, False, Identity.own())
VIEW = Membership(4, (ADDRESS,), None)
MESSAGES = [
    Hello(ADDRESS),
    Status(4, "computing", True, 9, Pace(20, 0.1, 0.2), (1, 2), (), (5,)),
    Ask(),
    Join(ADDRESS),
    Latest(VIEW),
    Leaving(),
    About(4, consensus.Prepare((1, 3), (2,))),
    About(4, consensus.Promise((1, 3), (0, 2), VIEW)),
    About(4, consensus.Promise((1, 3), consensus.NEVER, None)),
    About(4, consensus.Propose((1, 3), VIEW)),
    About(4, consensus.Vote((1, 3))),
    About(4, consensus.Refuse((1, 3), (2, 1))),
    About(4, consensus.Chosen(VIEW)),
]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_messages_arrive_as_they_were_sent_in_pieces_of_any_size(size):
    data = b"".join(encode(message) for message in MESSAGES)
    frames = Frames()
    arrived = [message for at in range(0, len(data), size) for message in frames.feed(data[at : at + size])]
    assert arrived == MESSAGES


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x02{}", b"\0\0\0\x05hello", b"\0\0\0\x0b" + b'{"":"Quit"}']
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(ValueError, match="frame"):
        list(Frames().feed(data))


class Heard:
    """Takes in what a network thread tells."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.messages: list = []
        self.dead: list[int] = []
        self.error: BaseException | None = None
        identity = Identity.own()
        self.mesh = Mesh("127.0.0.1", identity, self, self.lock)

    def start(self, worker: int) -> Address:
        address = Address(worker, "127.0.0.1", self.mesh.port, 0, False, Identity.own())
        self.mesh.start(address)
        return address

    def heard(self, worker, message):
        self.messages.append((worker, message))

    def ended(self, worker):
        self.dead.append(worker)

    def due(self):
        return 0.01

    def failed(self, error):
        self.error = error

    def until(self, condition, seconds=10.0):
        with self.lock:
            assert self.lock.wait_for(condition, seconds), (self.messages, self.dead, self.error)

    def send(self, address, message):
        with self.lock:
            self.mesh.send(address, message)


@pytest.fixture
def two():
    first, second = Heard(), Heard()
    yield first, second
    first.mesh.close(1.0)
    second.mesh.close(1.0)
    assert first.error is None
    assert second.error is None


def test_what_is_sent_before_there_is_a_connection_arrives_in_order(two):
    first, second = two
    first.start(1)
    to = second.start(2)
    for message in MESSAGES:
        first.send(to, message)
    second.until(lambda: len(second.messages) == len(MESSAGES))
    assert second.messages == [(1, message) for message in MESSAGES]


def test_nothing_reaches_a_worker_that_is_cut_off(two):
    first, second = two
    first.start(1)
    to = second.start(2)
    first.send(to, Ask())
    second.until(lambda: second.messages)
    with second.lock:
        second.mesh.cut = frozenset({1})
    first.send(to, Leaving())
    with second.lock:
        second.mesh.cut = frozenset({3})
    first.send(to, Ask())
    second.until(lambda: second.messages[-1:] == [(1, Ask())])


def test_a_stranger_and_a_connection_that_breaks_off_do_no_harm(two):
    first, second = two
    first.start(1)
    to = second.start(2)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"", encode(Ask()), encode(Hello(ADDRESS))[:7]):
        with socket.create_connection((to.host, to.port)) as stranger:
            stranger.sendall(data)
    first.send(to, Ask())
    second.until(lambda: (1, Ask()) in second.messages)


def test_the_end_of_a_process_is_noticed_and_a_member_elsewhere_is_not_taken_for_dead(two):
    first, second = two
    first.start(1)
    second.start(2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = identity_of(process.pid)
        with first.lock:
            first.mesh.watch(replace(ADDRESS, worker=7, identity=other))
            first.mesh.watch(replace(ADDRESS, worker=8, identity=replace(other, machine="another")))
        process.kill()
    first.until(lambda: first.dead == [7])
    with first.lock:
        first.mesh.watch(replace(ADDRESS, worker=9, identity=other))
    first.until(lambda: first.dead == [7, 9])


def identity_of(pid: int) -> Identity:
    return replace(Identity.own(), pid=pid, started=started(pid))


def test_a_process_is_not_taken_for_another_that_had_its_number():
    own = Identity.own()
    assert not own.has_ended()
    descriptor = watch(own)
    assert descriptor is not None
    os.close(descriptor)
    former = replace(own, started="1")
    assert former.has_ended()
    assert watch(former) is None
    assert own.is_visible_to(former)
    assert not own.is_visible_to(replace(own, namespace="elsewhere"))
    assert not replace(own, machine="").is_visible_to(replace(own, machine=""))


def test_a_runner_returns_results_and_the_errors_of_connections_in_words():
    runner = Runner()

    def broken():
        raise RuntimeError("the connection broke\nat frame 7")

    assert runner.run(lambda: 3) == (3, "")
    assert runner.run(broken) == (None, "the connection broke")
    with pytest.raises(ZeroDivisionError):
        runner.run(lambda: 1 / 0)
    assert runner.run(lambda: 4) == (4, "")
    runner.end()
    runner.thread.join(10)
    assert not runner.thread.is_alive()


def test_a_runner_that_is_abandoned_returns_at_once_and_ends_when_it_is_free():
    runner, free = Runner(), threading.Event()
    threading.Timer(0.05, runner.abandon).start()
    assert runner.run(free.wait) == (None, ABANDONED)
    assert runner.is_abandoned
    runner.end()
    assert runner.thread.is_alive()
    free.set()
    runner.thread.join(10)
    assert not runner.thread.is_alive()
