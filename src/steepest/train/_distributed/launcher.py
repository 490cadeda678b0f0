"""The process that starts the workers of a run, and listens to them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from steepest.communication._processes import Ended, Processes, Worker
from steepest.train._distributed.messages import Hello, Paused
from steepest.train._distributed.records import Records
from steepest.train._distributed.settings import Settings
from steepest.train._distributed.worker import run_worker

__all__ = ["Launcher"]

_POLL = 0.1


class Launcher:
    """Starts the workers, introduces them to each other, and collects what they tell.

    It has no part in the training: the workers agree on their membership among themselves.

    Args:
        processes: Where the processes are started; it ends them all.
        settings: The settings of the run.
        workers: The number of workers.
        has_server: Whether one more process is a parameter server.
        replaces: Whether a worker that died is replaced.
        progress: Called with the number of steps taken and of all.
    """

    def __init__(
        self,
        processes: Processes,
        settings: Settings,
        workers: int,
        *,
        has_server: bool,
        replaces: bool,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        import cloudpickle

        self._processes, self._settings, self._replaces = processes, settings, replaces
        self._pickled = cloudpickle.dumps(settings)
        self._founders, self._has_server = workers, has_server
        self._progress = progress
        self._numbers: dict[str, int] = {}  # by name of the process
        self._living: dict[int, Worker] = {}
        self._addresses: dict[int, Any] = {}
        self._continue: list[tuple[float, int]] = []  # when, and the process id
        self._server_faults = [each for each in settings.faults if each.worker is None]
        self._records = Records()

    def run(self) -> Records:
        """Run until all members of the group have finished; return what was told.

        Raises:
            WorkerFailed: If a worker raised an exception, with its traceback as the cause, or no worker survived.
        """
        for number in range(self._founders):
            self._start(number, "worker", is_new=False)
        if self._has_server:
            self._start(self._founders, "server", is_new=False)
        while True:
            for process, message in self._processes.messages(_POLL):
                self._heard(self._numbers[process.name], message)
                if self._is_done():
                    return self._records
            self._act()

    def _start(self, number: int, role: str, *, is_new: bool) -> None:
        name = f"the server (process {number})" if role == "server" else f"worker {number}"
        process = self._processes.start(run_worker, self._pickled, number, role, is_new, name=name)
        self._numbers[process.name] = number
        self._living[number] = process

    def _heard(self, number: int, message: Any) -> None:
        if isinstance(message, Hello):
            self._introduce(number, message.address)
        elif isinstance(message, Paused):
            if message.seconds is not None:
                self._continue.append((time.monotonic() + message.seconds, self._living[number].pid))
        elif isinstance(message, Ended):
            self._ended(number, message)
        else:
            self._records.add(number, message)
            if self._progress is not None:
                self._progress(self._records.step, self._settings.steps)

    def _introduce(self, number: int, address: Any) -> None:
        """Tell all founders of each other once all have started; tell a new worker of all who live."""
        self._addresses[number] = address
        founders = self._founders + self._has_server
        if number >= founders:
            self._send(number, [self._addresses[each] for each in self._living if each != number])
        elif len(self._addresses) == founders:
            for each in range(founders):
                self._send(each, [self._addresses[each] for each in range(founders)])

    def _send(self, number: int, addresses: list[Any]) -> None:
        with contextlib.suppress(OSError, KeyError):  # it has died
            self._living[number].connection.send(addresses)

    def _ended(self, number: int, end: Ended) -> None:
        process = self._living.pop(number)
        if end.raised is not None:
            raise end.failure(process.name)
        if number in self._records.finished:
            return
        if self._replaces and not self._records.finished:
            self._start(max(self._numbers.values()) + 1, self._role(number), is_new=True)
        elif not any(self._role(each) == "worker" for each in self._living):
            raise end.failure(f"{process.name}, the last one that lived,")

    def _role(self, number: int) -> str:
        return "server" if self._has_server and number == self._founders else "worker"

    def _act(self) -> None:
        """Let a stopped process continue, and strike the server, when it is time."""
        now = time.monotonic()
        for due in [each for each in self._continue if each[0] <= now]:
            self._continue.remove(due)
            _signal(due[1], signal.SIGCONT)
        for fault in [each for each in self._server_faults if each.step <= self._records.step]:
            self._server_faults.remove(fault)
            server = self._living.get(self._founders)
            if server is not None:
                _signal(server.pid, signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
                if fault.kind == "stop" and fault.length is not None:
                    self._continue.append((now + fault.length, server.pid))

    def _is_done(self) -> bool:
        """Return whether all workers of the last membership have finished; others are left out of it."""
        finished = self._records.finished
        members = {number for each in finished.values() for number in each.workers}
        return bool(finished) and all(number in finished or number not in self._living for number in members)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
