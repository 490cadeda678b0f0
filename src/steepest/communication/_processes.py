"""Processes that a caller starts, listens to, and ends: none is left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from steepest._importing import require
from steepest.communication._channel import Channel
from steepest.communication._child import STARTED, Raised, run
from steepest.errors import InvalidArgument, SteepestError, WorkerFailed

__all__ = ["Ended", "Processes", "Worker", "prepare"]

GRACE = 2.0


class _RemoteError(Exception):
    """The traceback of another process, as the cause of an error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        exitcode: 0 if its function returned, -9 if it was killed by signal 9.
        raised: What its function raised, if it did.
        started: Whether its function was reached.
    """

    exitcode: int
    raised: Raised | None = None
    started: bool = True

    @property
    def traceback(self) -> str | None:
        """The traceback of the error that its function raised."""
        return None if self.raised is None else self.raised.traceback

    def failure(self, name: str) -> WorkerFailed:
        """Return the error for a process that had to go on; its cause is the traceback."""
        if self.raised is not None:
            remedy = "The traceback of that process stands above."
            error = WorkerFailed(f"{name} raised {self.raised.summary}", remedy=remedy)
            error.__cause__ = _RemoteError(self.raised.traceback)
            return error
        if self.exitcode < 0:
            with contextlib.suppress(ValueError):
                return WorkerFailed(f"{name} was killed by {signal.Signals(-self.exitcode).name}")
        if not self.started:
            remedy = 'Start processes under `if __name__ == "__main__":` only; what the process printed says more.'
            return WorkerFailed(f"{name} ended before its function began", got=self.exitcode, remedy=remedy)
        return WorkerFailed(f"{name} ended before its function returned", got=self.exitcode)


class Worker:
    """A process that was started.

    Attributes:
        name: What messages call it.
        connection: This end of its pipe: `send`, `recv`, `poll`.
    """

    def __init__(self, process: BaseProcess, connection: Channel, name: str) -> None:
        self.name, self.connection = name, connection
        self._process = process
        self._raised: Raised | None = None
        self._started = self._told = self._closed = False

    def __repr__(self) -> str:
        return f"<{self.name}, process {self.pid}>"

    @property
    def pid(self) -> int:
        """The process id."""
        return cast(int, self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return self._process.is_alive()

    @property
    def exitcode(self) -> int | None:
        """None while it is alive, then how it ended."""
        return self._process.exitcode


class Processes:
    """Processes that end with their block, or with the process that started them.

    Each gets a pipe to this process. SIGINT (Ctrl-C in a terminal reaches all processes) is left to this process,
    which ends the others; a process that is stopped is ended too.

    Args:
        preload: Modules, beside torch, that all processes need: where processes are forked, they are imported once,
            provided that this program has started none before. (torch's optimizers need "torch._dynamo".)

    >>> with Processes() as processes:  # doctest: +SKIP
    ...     worker = processes.start(work, 3, name="worker 0")
    ...     for worker, message in processes.messages(timeout=10):
    ...         print(worker.name, message)
    """

    def __init__(self, *, preload: Sequence[str] = ()) -> None:
        self._preload = preload
        self._workers: list[Worker] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, function: Callable[..., object], *args: object, name: str) -> Worker:
        """Call `function(connection, *args)` in a new process.

        Args:
            function: What the process does; `connection` is its end of the pipe.
            *args: Further arguments, which travel by value.
            name: What messages call the process.

        Raises:
            InvalidArgument: The function or an argument can't be sent to another process.
            SteepestError: This process is itself being started: the program starts processes when it is imported.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SteepestError(
                "a program must not start processes while it is imported",
                remedy='Each process imports the program. Put the call under `if __name__ == "__main__":`.',
            )
        context = _context(self._preload)
        here, there = context.Pipe()
        payload = _pickled(function, args)
        process = context.Process(target=run, args=(payload, there, dict(os.environ)), name=name)  # pyright: ignore[reportAttributeAccessIssue]
        with _without_stdin():
            process.start()
        there.close()
        worker = Worker(process, Channel(cast(Any, here)), name)
        self._workers.append(worker)
        return worker

    def messages(self, timeout: float | None = None) -> Iterator[tuple[Worker, Any]]:
        """Return what the processes send, as it arrives; at the end of each an `Ended`.

        The messages of a process come in the order in which it sent them, its end comes last.

        Args:
            timeout: The seconds after which to return; None: when all processes have ended.

        Raises:
            WorkerFailed: A process has sent an object that raises an error when it is read.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while waiting := [worker for worker in self._workers if not worker._told]:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            pipes = {worker.connection.fileno(): worker for worker in waiting if not worker._closed}
            sentinels = {worker._process.sentinel: worker for worker in waiting if worker._closed}
            for ready in multiprocessing.connection.wait([*pipes, *sentinels], left):
                if (worker := pipes.get(cast(int, ready))) is not None:
                    yield from self._read(worker)
                else:
                    worker = sentinels[cast(int, ready)]
                    worker._process.join()
                    worker._told = True
                    yield worker, Ended(cast(int, worker.exitcode), worker._raised, worker._started)

    def _read(self, worker: Worker) -> Iterator[tuple[Worker, Any]]:
        try:
            data = worker.connection.recv_bytes()
        except (EOFError, OSError):  # Its end is closed, which is the first sign that it has ended.
            worker._closed = True
            return
        worker._started = True
        try:
            message = pickle.loads(data)
        except Exception as error:
            rule = f"{worker.name} sent what cannot be read here: {type(error).__name__}: {error}"
            remedy = "Let it send, or return, plain values such as numbers, tensors, lists and dicts."
            raise WorkerFailed(rule, remedy=remedy) from error
        if isinstance(message, Raised):
            worker._raised = message
        elif message != STARTED:
            yield worker, message

    def stop(self) -> None:
        """End all processes that still run: by SIGTERM, by SIGKILL after two seconds or if they are stopped."""
        try:
            for worker in self._alive():
                worker._process.terminate()
            end = time.monotonic() + GRACE
            while (running := [w for w in self._alive() if not _stopped(w.pid)]) and time.monotonic() < end:
                multiprocessing.connection.wait([w._process.sentinel for w in running], min(0.1, GRACE))
        finally:
            for worker in self._alive():
                worker._process.kill()
            for worker in self._workers:
                worker._process.join()
                worker.connection.close()
            self._workers = []

    def _alive(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.alive]


def prepare(*modules: str) -> None:
    """Start the process from which others are forked, unless it runs; it imports modules while the caller goes on.

    Args:
        *modules: What the processes will need besides torch and this package.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        _context(modules)
        multiprocessing.forkserver.ensure_running()


def _context(preload: Sequence[str]) -> BaseContext:
    """Return how processes are started: forked from one that has imported what they need, where that is possible."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "steepest.communication", *preload])
    return context


def _stopped(pid: int) -> bool:
    """Return whether a process is stopped, as by SIGSTOP; False where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def _imported() -> bool:
    """Return whether a started process imports the program, and so finds its functions by name.

    It does not where the program is a notebook, `python -c`, read from standard input, or the `__main__` of a package.
    """
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return name != "__main__" and not name.endswith(".__main__")
    return Path(getattr(main, "__file__", None) or "").is_file()


@contextlib.contextmanager
def _without_stdin() -> Generator[None, None, None]:
    """Hide that the program has a file where that is none, such as "<stdin>": a started process would try to run it."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main is None or file is None or Path(file).is_file() or getattr(main, "__spec__", None) is not None:
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = file


def _pickled(function: Callable[..., object], args: tuple[object, ...]) -> bytes:
    """Return a call as bytes; what a started process cannot import by its name, such as a lambda, needs cloudpickle."""
    why: Exception | None = None
    try:
        data = pickle.dumps((function, args))
        if b"__main__" not in data or _imported():
            return data
    except Exception as error:
        why = error
    try:
        require("A function of this program", "cloudpickle", extra="compare")
        import cloudpickle

        return cloudpickle.dumps((function, args))
    except ImportError:
        remedy = "Define it at the top of a module, or install cloudpickle."
    except Exception as error:
        why, remedy = error, "Open files, locks and the like inside of the function."
    rule = "function and args must be such as can be sent to another process"
    raise InvalidArgument(rule, got=function if why is None else why, remedy=remedy) from why
