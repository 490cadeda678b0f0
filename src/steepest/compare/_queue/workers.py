"""The executors of runs: worker processes, or this process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cloudpickle

from steepest._contained import contained
from steepest.compare._design import Run
from steepest.compare._run import RunContext, execute
from steepest.errors import TaskError
from steepest.train import History

__all__ = ["Portable", "RunExecutor", "worker_processes"]

P = ParamSpec("P")
T = TypeVar("T")


class Portable:
    """The context of a run as bytes, so that it can be executed in any process on any machine.

    Raises:
        TaskError: If it cannot be sent to another process.
    """

    def __init__(self, context: RunContext) -> None:
        try:
            self._content = cloudpickle.dumps(context)
        except Exception as error:  # an object's own __reduce__ may raise anything
            raise _not_portable(error) from error
        self._digest = hashlib.sha256(self._content).hexdigest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Portable) and self._digest == other._digest

    def __call__(self, run: Run) -> History:
        """Execute a run, here."""
        return execute(_read(self), run)

    def read(self) -> RunContext:
        """Return the context.

        Raises:
            TaskError: If this process cannot unpickle it.
        """
        try:
            with contained("a module that the task or program needs"):
                return cloudpickle.loads(self._content)
        except Exception as error:
            raise _not_portable(error) from error


@functools.lru_cache(maxsize=1)
def _read(portable: Portable) -> RunContext:
    return portable.read()


class RunExecutor(Executor):
    """An executor that knows for how long a call has been running, and can end it."""

    @abstractmethod
    def seconds(self, future: Future[Any]) -> float:
        """Return the running time of a call in seconds; 0 while it waits."""

    @abstractmethod
    def restart(self) -> None:
        """End every call that is running."""


class ThisProcess(RunExecutor):
    """Executes in this process, at once: nothing has to be pickled, and a debugger works."""

    def __init__(self) -> None:
        self._seconds: dict[Future[Any], float] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make the call and return its finished future."""
        future: Future[T] = Future()
        began = time.monotonic()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # raised by `Future.result`, as with any executor
            future.set_exception(error)
        self._seconds[future] = time.monotonic() - began
        return future

    def seconds(self, future: Future[Any]) -> float:
        """Return the duration of the call in seconds."""
        return self._seconds[future]

    def restart(self) -> None:
        """Do nothing: a run in this process cannot be ended."""


class Processes(RunExecutor):
    """Executes in processes that loky starts.

    They need no `if __name__ == "__main__"`, take lambdas, and end with this process, however it ends.

    Args:
        workers: The number of processes.
        folder: The folder in which each call writes an empty file when it begins.
    """

    def __init__(self, workers: int, folder: Path) -> None:
        self._count, self._folder = workers, folder
        self._began: dict[Future[Any], float] = {}
        self._marks: dict[Future[Any], Path] = {}
        self._executor = self._start()

    def _start(self) -> Executor:
        from loky import ProcessPoolExecutor  # a tenth of a second that only this path needs

        # One thread each: the threads of a product of small matrices cost more than they bring, and two processes'
        # threads would fight for the same cores.
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return ProcessPoolExecutor(self._count, initializer=_start_worker, initargs=(os.getpid(),), env=environment)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call to the next free process."""
        mark = self._folder / f"begun-{len(self._marks)}"
        future = self._executor.submit(_marked, str(mark), fn, *args, **kwargs)
        self._marks[future] = mark
        return future

    def seconds(self, future: Future[Any]) -> float:
        """Return the running time of a call in seconds, from when it was first seen to run."""
        if future not in self._began and self._marks[future].exists():
            self._began[future] = time.monotonic()
        return time.monotonic() - self._began.get(future, time.monotonic())

    def restart(self) -> None:
        """Kill the processes and start new ones."""
        self.shutdown()
        self._executor = self._start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Kill the processes, whatever they do."""
        self._executor.shutdown(wait=True, kill_workers=True)  # pyright: ignore[reportCallIssue]


@contextlib.contextmanager
def worker_processes(workers: int) -> Generator[RunExecutor, None, None]:
    """Yield an executor of runs: this process for one worker, else worker processes that are ended on exit."""
    if workers == 1:
        yield ThisProcess()
        return
    with tempfile.TemporaryDirectory(prefix="steepest-", ignore_cleanup_errors=True) as folder:
        processes = Processes(workers, Path(folder))
        try:
            yield processes
        finally:
            processes.shutdown()


def _not_portable(error: Exception) -> TaskError:
    return TaskError(
        "a task or program for more than one worker must be picklable by cloudpickle",
        got=f"{type(error).__name__}: {error}",
        remedy="Pass --workers 1 (workers=1) to train in this process.",
    )


def _marked(mark: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if isinstance(fn, Portable):
        _read(fn)  # importing its modules does not count as the run's time
    Path(mark).touch()
    return fn(*args, **kwargs)


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # loky sets its own start method, with which a task's DataLoader or program could not start processes.
    multiprocessing.set_start_method(None, force=True)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
