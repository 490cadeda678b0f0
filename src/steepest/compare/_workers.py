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
from typing import Any

import cloudpickle
import torch

from steepest.compare._candidates import Candidate
from steepest.compare._features import FeatureObserver
from steepest.compare._plan import FIRST_SEED, Run
from steepest.errors import SteepestError, TaskError
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train import History, train

__all__ = ["Bench", "InProcess", "execute", "worker_processes"]


@dataclass(frozen=True)
class Bench:
    """All that a worker needs to execute any run of a comparison."""

    task: Task
    candidates: Mapping[str, Candidate]
    inits: Mapping[str, Initializer]
    steps: int
    schedule: str
    device: str


def execute(bench: Bench, run: Run) -> History:
    """Execute one run on one thread, so that its bits do not depend on who executes it.

    Raises:
        TaskError: If the task's own code fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    features = FeatureObserver(bench.task, bench.steps) if run.seed == FIRST_SEED else None
    try:
        history = train(
            bench.task,
            bench.candidates[run.cell.optimizer].build,
            bench.inits[run.cell.init],
            lr=run.lr,
            seed=run.seed,
            steps=bench.steps,
            schedule=bench.schedule,
            device=bench.device,
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


class InProcess(Executor):
    """Executes in this process, at once: nothing has to be pickled, and a debugger works."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function and return its finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed to whoever asks for the result, as an executor does
            future.set_exception(error)
        return future


@contextlib.contextmanager
def worker_processes(bench: Bench, workers: int) -> Generator[tuple[Executor, Any], None, None]:
    """Open an executor and yield it with the function to submit; on leaving, its processes are gone.

    One worker is this process. More are processes that loky starts: they need no `if __name__ == "__main__"`, take
    lambdas, and end when this process does, however it ends.
    """
    if workers == 1:
        yield InProcess(), functools.partial(execute, bench)
        return
    from loky import ProcessPoolExecutor  # a tenth of a second that only this path needs

    with tempfile.TemporaryDirectory(prefix="steepest-") as folder:
        path = Path(folder) / "bench.pickle"
        path.write_bytes(cloudpickle.dumps(bench))
        # One thread each: the threads of a product of small matrices cost more than they bring, and two processes'
        # threads would fight for the same cores.
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        executor = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),), env=environment)
        try:
            yield executor, functools.partial(_execute_from, str(path))
        finally:
            executor.shutdown(wait=True, kill_workers=True)


def _execute_from(path: str, run: Run) -> History:
    return execute(_read_bench(path), run)


@functools.lru_cache(maxsize=1)
def _read_bench(path: str) -> Bench:
    return cloudpickle.loads(Path(path).read_bytes())


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
