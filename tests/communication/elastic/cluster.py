"""Processes that train together on a problem of which the whole course is known, and deaths among them.

A gradient is the mean over the global batch's examples, plus a part of the parameters. So the course depends on every
step, on the order of steps and on every example, and is the same however many workers share the batch.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection, wait
from types import MappingProxyType
from typing import Any

import torch

from steepest.communication import Deadlines, ElasticGroup, GroupEvent, Scheme
from steepest.errors import GroupLost, MembershipChanged

BATCH = 12
SIZE = 7
ENDLESS = 10**9
PATIENT = Deadlines(give_up=30.0)
QUICK = Deadlines(heartbeat=0.05, step=0.5, rebuild=3.0, give_up=20.0)


def gradient(step: int, parameters: torch.Tensor, examples: slice) -> torch.Tensor:
    """The mean of some examples of a global batch, of a linear problem."""
    numbers = torch.arange(step * BATCH, (step + 1) * BATCH, dtype=torch.float64)[examples]
    if not len(numbers):
        return torch.zeros_like(parameters)
    return torch.sin(numbers)[:, None].expand(-1, len(parameters)).mean(0) + 0.1 * parameters


def undisturbed(steps: int) -> torch.Tensor:
    """The parameters of one worker that has seen all."""
    parameters = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    for step in range(steps):
        parameters = parameters - 0.1 * gradient(step, parameters, slice(0, BATCH))
    return parameters


class Training:
    """The state of a worker."""

    def __init__(self, ballast: int = 0) -> None:
        self.step = 0
        self.parameters = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
        self.examples: list[int] = []
        self.ballast = torch.zeros(ballast)

    def save(self) -> bytes:
        buffer = io.BytesIO()
        torch.save((self.step, self.parameters, self.examples, self.ballast), buffer)
        return buffer.getvalue()

    def load(self, data: bytes) -> None:
        self.step, self.parameters, self.examples, self.ballast = torch.load(io.BytesIO(data))


def share(size: int, rank: int) -> slice:
    """The examples of a global batch that belong to one of `size` workers."""
    return slice(BATCH * rank // size, BATCH * (rank + 1) // size)


def work(connection: Connection, worker: int, scheme: Scheme, options: dict[str, Any]) -> None:
    """One process: trains until it has seen `steps`, and tells what happens."""
    torch.set_num_threads(1)
    faulthandler.register(signal.SIGUSR1)
    role, deadlines = options.get("role", "worker"), options.get("deadlines", PATIENT)
    slowness = options.pop("slowness", 0.0)

    def tell(event: GroupEvent) -> None:
        connection.send(event)
        nonlocal slowness
        if event.kind == options.get("fast_after"):
            slowness = 0.0

    group = ElasticGroup(worker, scheme, role=role, deadlines=deadlines, observe=tell)
    try:
        connection.send(group.address)
        begin = group.join if options.get("joins") else group.form
        begin(connection.recv())
        goal = [options.pop("steps", ENDLESS), 0]
        threading.Thread(target=obey, args=(connection, group, goal), daemon=True).start()
        if role == "server":
            group.serve()
            connection.send(("served", worker))
        else:
            course = train(group, connection, lambda: goal[0], lambda: 0.0 if goal[1] else slowness, **options)
            connection.send(("ended", worker, *course))
    except GroupLost as lost:
        connection.send(("lost", worker, str(lost)))
    except BaseException:
        connection.send(("failed", worker, traceback.format_exc()))
    finally:
        group.close()


def train(
    group: ElasticGroup,
    connection: Connection,
    goal: Callable[[], int],
    slowness: Callable[[], float],
    pause: float = 0.0,
    ballast: int = 0,
    told: bool = False,
    fails: Mapping[int, int] = MappingProxyType({}),
    validates_at: Mapping[int, int] = MappingProxyType({}),
    **_: Any,
) -> tuple[int, list[float]]:
    """Train as a user's program would."""
    state = Training(ballast)
    while state.step < goal():
        step = group.begin(state)
        time.sleep(pause + slowness())
        mine = share(group.view.size, group.view.rank)
        if step == fails.get(group.address.worker):
            raise ArithmeticError("the worker's own error")
        if step == validates_at.get(group.address.worker):
            with group.busy("validation"):
                time.sleep(1.5)
        own = gradient(step, state.parameters, mine)
        try:
            group.average_([own], weight=(mine.stop - mine.start) / BATCH)
        except MembershipChanged:
            continue
        state.parameters = state.parameters - 0.1 * own
        state.step += 1
        group.completed(step)
        if told:
            connection.send(("step", time.monotonic(), group.view.size, state.step))
    group.leave()
    return state.step, state.parameters.tolist()


def obey(connection: Connection, group: ElasticGroup, goal: list[int]) -> None:
    """Carry out what the test says: which workers cannot be reached, or when to end."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            order = connection.recv()
            if isinstance(order, int):
                goal[0] = order
            elif order == "fast":
                goal[1] = 1
            else:
                group._node.cut(frozenset(order))


class Cluster:
    """Processes of a test, all of which end with it."""

    def __init__(self, scheme: Scheme, **options: Any) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["torch", "steepest.communication"])
        self.scheme, self.options = scheme, options
        self.processes: dict[int, Any] = {}
        self.connections: dict[int, Connection] = {}
        self.addresses: dict[int, Any] = {}
        self.log: list[tuple[float, int, Any]] = []
        self.results: dict[int, tuple[Any, ...]] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.is_alive():
                with contextlib.suppress(ProcessLookupError):  # it ends by itself just now
                    os.kill(process.pid, signal.SIGKILL)
            process.join(10)
            process.close()
        for connection in self.connections.values():
            connection.close()

    def found(self, workers: Iterable[int], servers: Iterable[int] = (), killed: int | None = None) -> None:
        """Start the founders, of which one may be killed before it meets the others."""
        servers = set(servers)
        founders = sorted({*workers} | servers)
        for worker in founders:
            self._start(worker, role="server" if worker in servers else "worker")
        for worker in founders:
            self._receive_address(worker)
        if killed is not None:
            self.signal(killed)
        for worker in founders:
            if worker != killed:
                self.connections[worker].send([self.addresses[founder] for founder in founders])

    def join(self, worker: int, role: str = "worker", **options: Any) -> None:
        """Start one more, which asks those that live to be taken in."""
        self._start(worker, role=role, joins=True, **options)
        self._receive_address(worker)
        self.connections[worker].send([self.addresses[other] for other in self.living if other != worker])

    @property
    def living(self) -> list[int]:
        """Who has not ended."""
        return [worker for worker, process in self.processes.items() if process.is_alive() and worker in self.addresses]

    def signal(self, worker: int, what: signal.Signals = signal.SIGKILL) -> float:
        """Send a signal; return when."""
        os.kill(self.processes[worker].pid, what)
        return time.time()

    def cut(self, *halves: set[int]) -> None:
        """Let nobody of one half reach anybody of another."""
        everybody = set(self.addresses)
        for half in halves:
            for worker in half:
                self.connections[worker].send(everybody - half)

    def until(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Take in what the processes tell, until something holds."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            left = end - time.monotonic()
            assert left > 0, f"it did not happen within {seconds} s: {self.story()}{self.stacks()}"
            self._take_in(min(left, 0.2))
        return found

    def listen(self, seconds: float) -> None:
        """Take in what the processes tell, for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._take_in(left)

    def speed_up(self, worker: int) -> None:
        """Let a slow worker be fast."""
        self.connections[worker].send("fast")

    def forget_steps(self) -> None:
        """Keep only the last steps that were told, in a long run."""
        last = [entry for entry in self.log if not _is_telling(entry[2])][-100:]
        self.log = [entry for entry in self.log if _is_telling(entry[2])] + last

    def _take_in(self, seconds: float) -> None:
        numbers = {connection: worker for worker, connection in self.connections.items()}
        for connection in wait(list(numbers), seconds):
            worker = numbers[connection]
            try:
                told = connection.recv()
            except (EOFError, OSError):
                del self.connections[worker]
                connection.close()
                continue
            self.log.append((time.time(), worker, told))
            if isinstance(told, tuple) and told[0] != "step":
                self.results[worker] = told

    def events(self, kind: str, seen_by: int | None = None, worker: int | None = None) -> list[GroupEvent]:
        """What happened, so far as it was told."""
        return [
            told
            for _, who, told in self.log
            if isinstance(told, GroupEvent)
            and told.kind == kind
            and seen_by in (None, who)
            and worker in (None, told.worker)
        ]

    def reach(self, step: int, seconds: float = 20.0) -> None:
        """Wait until somebody has completed so many steps (with `told=True`)."""
        self.until(lambda: self.steps >= step, seconds)

    @property
    def steps(self) -> int:
        """How many steps somebody has completed."""
        told = [entry[-1] for *_, entry in self.log if isinstance(entry, tuple) and entry[0] == "step"]
        return max(told, default=0)

    def end(self) -> int:
        """Let all end soon, at the same step; return how many steps they do."""
        steps = self.steps + 50
        for connection in self.connections.values():
            with contextlib.suppress(OSError):
                connection.send(steps)
        return steps

    def finish(self, seconds: float = 30.0) -> dict[int, tuple[Any, ...]]:
        """Wait until all that live have ended; return what they have said at the end."""
        self.until(lambda: not self.connections, seconds)
        return {worker: self.results[worker] for worker in sorted(self.results)}

    def story(self) -> str:
        """What was told, for a failure."""
        lines = [f"{when % 1000:8.3f} {who}: {told}" for when, who, told in self.log if _is_telling(told)]
        return "\n" + "\n".join(lines[-60:])

    def stacks(self) -> str:
        """Let all that live write where they are to stderr, for a failure."""
        for worker in self.living:
            self.signal(worker, signal.SIGUSR1)
        time.sleep(0.5)
        return ""

    def _start(self, worker: int, **options: Any) -> None:
        ours, theirs = self.context.Pipe()
        arguments = (theirs, worker, self.scheme, {**self.options, **options})
        process = self.context.Process(target=work, args=arguments, name=f"worker {worker}", daemon=True)
        process.start()
        theirs.close()
        self.processes[worker], self.connections[worker] = process, ours

    def _receive_address(self, worker: int) -> None:
        assert self.connections[worker].poll(30), f"worker {worker} did not start"
        self.addresses[worker] = self.connections[worker].recv()


def _is_telling(told: Any) -> bool:
    return not (isinstance(told, tuple) and told[0] == "step")


def assert_right(results: dict[int, tuple[Any, ...]], workers: Iterable[int], steps: int) -> None:
    """All of these workers have ended, with the parameters of an undisturbed training."""
    for worker in workers:
        kind, _, *rest = results[worker]
        assert kind == "ended", results[worker]
        assert rest[0] == steps
        difference = (torch.tensor(rest[1], dtype=torch.float64) - undisturbed(steps)).abs().max()
        assert difference < 1e-12, (worker, difference)
