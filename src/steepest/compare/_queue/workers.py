"""Where runs are executed: processes of their own, or this one."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cloudpickle
import torch

from steepest._contained import contained
from steepest.compare._candidates import Candidate
from steepest.compare._design import FIRST_SEED, Run
from steepest.compare._features import FeatureObserver
from steepest.errors import SteepestError, TaskError
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train import History, train

__all__ = ["RunContext", "Workers", "execute", "worker_processes"]


@dataclass(frozen=True)
class RunContext:
    """All that a worker needs to execute any run of a comparison."""

    task: Task
    candidates: Mapping[str, Candidate]
    inits: Mapping[str, Initializer]
    steps: int
    schedule: str
    device: str


def execute(context: RunContext, run: Run) -> History:
    """Execute one run on one thread, so that its bits do not depend on who executes it.

    Raises:
        TaskError: If the task's own code fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    features = FeatureObserver(context.task, context.steps) if run.seed == FIRST_SEED else None
    try:
        history = train(
            context.task,
            context.candidates[run.cell.optimizer].build,
            context.inits[run.cell.init],
            lr=run.lr,
            seed=run.seed,
            steps=context.steps,
            schedule=context.schedule,
            device=context.device,
            observe=features,
        )
    except SteepestError:
        raise
    except Exception as error:
        raise TaskError(
            f"a run must train without an error: {run}",
            got=f"{type(error).__name__}: {error}",
            remedy="Finished runs are kept; mend the task and start again.",
        ) from error
    finally:
        torch.set_num_threads(threads)
    if features is not None:
        history = replace(history, features=features.found or "the run diverged")
    # The gradients of tuning runs are looked at by nobody, and would be most of what is stored.
    return history if run.phase == "final" else replace(history, gradient_norm={})


class Workers(Protocol):
    """Executes runs, some at a time."""

    def submit(self, run: Run) -> Future[History]:
        """Hand a run over."""
        ...

    def seconds(self, future: Future[History]) -> float:
        """Return for how long a run has been executed, or was; 0 as long as it waits."""
        ...

    def restart(self) -> None:
        """End every run that is being executed."""
        ...


class ThisProcess:
    """Executes in this process, at once: nothing has to be pickled, and a debugger works."""

    def __init__(self, context: RunContext) -> None:
        self._bench = context
        self._seconds: dict[Future[History], float] = {}

    def submit(self, run: Run) -> Future[History]:
        """Execute the run and return its finished future."""
        future: Future[History] = Future()
        began = time.monotonic()
        try:
            future.set_result(execute(self._bench, run))
        except Exception as error:  # handed to whoever asks for the result, as an executor does
            future.set_exception(error)
        self._seconds[future] = time.monotonic() - began
        return future

    def seconds(self, future: Future[History]) -> float:
        """Return how long the run took."""
        return self._seconds[future]

    def restart(self) -> None:
        """Do nothing: a run in this process cannot be ended."""


class Processes:
    """Executes in processes that loky starts.

    They need no `if __name__ == "__main__"`, take lambdas, and end when this process does, however it ends.

    Raises:
        TaskError: If the task cannot be sent to another process.
    """

    def __init__(self, context: RunContext, workers: int, folder: Path) -> None:
        self._count, self._folder = workers, folder
        self._began: dict[Future[History], float] = {}
        self._marks: dict[Future[History], Path] = {}
        try:
            (folder / "context.pickle").write_bytes(cloudpickle.dumps(context))
        except Exception as error:
            raise _not_portable(error) from error
        self._executor = self._start()

    def _start(self) -> Executor:
        from loky import ProcessPoolExecutor  # a tenth of a second that only this path needs

        # One thread each: the threads of a product of small matrices cost more than they bring, and two processes'
        # threads would fight for the same cores.
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return ProcessPoolExecutor(self._count, initializer=_start_worker, initargs=(os.getpid(),), env=environment)

    def submit(self, run: Run) -> Future[History]:
        """Hand a run to the next process that is free."""
        mark = self._folder / f"begun-{len(self._marks)}"
        future = self._executor.submit(_execute_from, str(self._folder / "context.pickle"), str(mark), run)
        self._marks[future] = mark
        return future

    def seconds(self, future: Future[History]) -> float:
        """Return since when, as far as it was looked at, the run is executed."""
        if future not in self._began and self._marks[future].exists():
            self._began[future] = time.monotonic()
        return time.monotonic() - self._began.get(future, time.monotonic())

    def restart(self) -> None:
        """Kill the processes and start new ones."""
        self.close()
        self._executor = self._start()

    def close(self) -> None:
        """Kill the processes."""
        self._executor.shutdown(wait=True, kill_workers=True)  # pyright: ignore[reportCallIssue]


@contextlib.contextmanager
def worker_processes(context: RunContext, workers: int) -> Generator[Workers, None, None]:
    """Yield what executes runs: this process for one worker, else processes that are gone on leaving."""
    if workers == 1:
        yield ThisProcess(context)
        return
    with tempfile.TemporaryDirectory(prefix="steepest-", ignore_cleanup_errors=True) as folder:
        processes = Processes(context, workers, Path(folder))
        try:
            yield processes
        finally:
            processes.close()


def _not_portable(error: Exception) -> TaskError:
    return TaskError(
        "a task for more than one worker must be fit to be sent to other processes",
        got=f"{type(error).__name__}: {error}",
        remedy="Pass --workers 1 (workers=1) to train in this process.",
    )


def _execute_from(path: str, mark: str, run: Run) -> History:
    try:
        with contained("a module that the task needs"):
            context = _read_bench(path)
    except Exception as error:
        raise _not_portable(error) from error
    Path(mark).touch()  # from now on its time counts
    return execute(context, run)


@functools.lru_cache(maxsize=1)
def _read_bench(path: str) -> RunContext:
    return cloudpickle.loads(Path(path).read_bytes())


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
