"""The process that starts the workers of a run, and listens to them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from steepest._importing import require
from steepest.communication import GroupEvent
from steepest.communication._processes import Ended, Processes, Worker
from steepest.errors import WorkerFailed
from steepest.train._distributed.messages import Happened, Hello, Lost, Paused, Progress
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

    Attributes:
        progress: Called with the number of steps taken and of all.
        observe: Called with each event of the group.
    """

    def __init__(
        self,
        processes: Processes,
        settings: Settings,
        workers: int,
        *,
        has_server: bool,
        replaces: bool,
    ) -> None:
        require("train_distributed", "cloudpickle", extra="compare")
        import cloudpickle

        self._processes, self._settings, self._replaces = processes, settings, replaces
        self._pickled = cloudpickle.dumps(settings)
        self._founders, self._has_server = workers, has_server
        self.progress: Callable[[int, int], object] | None = None
        self.observe: Callable[[GroupEvent], object] | None = None
        self._numbers: dict[str, int] = {}  # by name of the process
        self._living: dict[int, Worker] = {}
        self._addresses: dict[int, Any] = {}
        self._continue: list[tuple[float, int]] = []  # when, and the process id
        self._lost: dict[int, str] = {}
        self._members: set[int] = set()  # who was ever in the group
        self._servers: set[int] = set()
        self._stopped: set[int] = set()  # for ever
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
        if role == "server":
            self._servers.add(number)
        self._living[number] = process

    def _heard(self, number: int, message: Any) -> None:
        if isinstance(message, Hello):
            self._introduce(number, message.address)
        elif isinstance(message, Paused):
            if message.seconds is not None:
                self._continue.append((time.monotonic() + message.seconds, message.pid))
            elif self._living[number].pid == message.pid:
                self._stopped.add(number)
                self._check_alive(f"{self._living[number].name} was stopped")
        elif isinstance(message, Lost):
            self._lost[number] = message.why
        elif isinstance(message, Ended):
            self._ended(number, message)
        else:
            if isinstance(message, Progress):
                self._members.add(number)
            self._records.add(number, message)
            if self.observe is not None and isinstance(message, Happened):
                self.observe(message.event)
            if self.progress is not None:
                self.progress(self._records.step, self._settings.steps)

    def _introduce(self, number: int, address: Any) -> None:
        """Tell all founders of each other once all have started; tell a new worker of all who live."""
        self._addresses[number] = address
        founders = self._founders + self._has_server
        if number >= founders:
            self._send(number, [self._addresses[each] for each in self._living if each in self._members])
        elif len(self._addresses) == founders:
            self._members.update(range(founders))
            for each in range(founders):
                self._send(each, [self._addresses[other] for other in range(founders)])

    def _send(self, number: int, addresses: list[Any]) -> None:
        with contextlib.suppress(OSError, KeyError):  # it has died
            self._living[number].connection.send(addresses)

    def _ended(self, number: int, end: Ended) -> None:
        process = self._living.pop(number)
        if end.raised is not None:
            raise end.failure(process.name)
        if number in self._records.finished:
            return
        if not self._members:  # the group has not formed
            raise end.failure(process.name)
        self._check_alive(self._lost.get(number, str(end.failure(process.name))).rstrip("."))
        if self._replaces and number not in self._lost and not self._records.finished:
            self._start(max(self._numbers.values()) + 1, "server" if number in self._servers else "worker", is_new=True)

    def _check_alive(self, last: str) -> None:
        """Raise an error if no worker is left that could go on, or let others in.

        Args:
            last: What happened last.
        """
        able = (self._members & self._living.keys()) - self._servers - self._stopped
        if not able and not self._records.finished:
            raise WorkerFailed(f"{last}, and no worker is left that can go on", remedy="Start the run again.")

    def _act(self) -> None:
        """Let a stopped process continue when it is time."""
        for due in [each for each in self._continue if each[0] <= time.monotonic()]:
            self._continue.remove(due)
            with contextlib.suppress(ProcessLookupError):
                os.kill(due[1], signal.SIGCONT)

    def _is_done(self) -> bool:
        """Return whether all workers of the last membership have finished; others are left out of it."""
        finished = self._records.finished
        members = {number for each in finished.values() for number in each.workers}
        return bool(finished) and all(number in finished or number not in self._living for number in members)
