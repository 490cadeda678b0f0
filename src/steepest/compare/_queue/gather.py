"""Executes the runs of the protocol until it is complete."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait

from steepest.compare._design import Design, Run
from steepest.compare._progress import Listener
from steepest.compare._protocol import next_runs, scores_of, starts_of
from steepest.compare._queue.interrupts import DeferredInterrupts
from steepest.compare._queue.owner import LEASE_SECONDS
from steepest.compare._queue.store import Lease, Store
from steepest.compare._queue.timeout import RunTimeout, in_words
from steepest.compare._queue.workers import Portable, worker_processes
from steepest.compare._run import RunContext, execute
from steepest.errors import SteepestError, StorageError
from steepest.train import History

__all__ = ["gather", "missing_runs"]


_TICK = 1.0  # seconds between checks for hanging runs
_UNTOLD = 5.0  # seconds of waiting for other processes without a message


def gather(
    design: Design,
    store: Store,
    context: RunContext,
    workers: int,
    listener: Listener,
    timeout: RunTimeout,
    deadline: float = math.inf,
) -> dict[Run, History]:
    """Execute the runs that the protocol requires until it is complete, or until the deadline of the monotonic clock.

    Raises:
        SteepestError: If a worker process dies, or a run hangs twice.
        StorageError: If the storage is unavailable for too long, or was changed by another program.
    """
    running: dict[Lease, Future[History]] = {}
    hung: set[Run] = set()
    finished = store.finished()
    renewed = idle_since = time.monotonic()
    run_it = functools.partial(execute, context) if workers == 1 else Portable(context)
    with DeferredInterrupts() as interrupts, worker_processes(workers) as pool:

        def sleep(seconds: float) -> None:
            with interrupts.allowed():
                time.sleep(seconds)

        store.patience.sleep, store.patience.say = sleep, listener.waiting
        try:
            while (needed := missing_runs(design, finished)) and time.monotonic() < deadline:
                listener.known(_values(design, finished), _expected(design, finished, needed))
                # One lease more than there are workers, so that no worker waits while the storage writes.
                while len(running) <= workers and not any(future.done() for future in running.values()):
                    lease = store.claim() or (store.claim() if store.enqueue(needed) else None)
                    if lease is None:
                        break
                    listener.started(lease.run)
                    running[lease] = Future()  # until it is submitted; one worker trains while it is submitted
                    if workers == 1:
                        longest = timeout.of(lease.run.cell)
                        with _kept(store, lease), interrupts.allowed(), _announced(lease.run, longest, listener):
                            running[lease] = pool.submit(run_it, lease.run)
                    else:
                        running[lease] = pool.submit(run_it, lease.run)
                if running:
                    if time.monotonic() > idle_since + _UNTOLD:
                        listener.waiting("")
                    idle_since = time.monotonic()
                    with interrupts.allowed():
                        wait(running.values(), timeout=_TICK, return_when=FIRST_COMPLETED)
                else:  # other processes have the runs that are left
                    if time.monotonic() > idle_since + _UNTOLD:
                        listener.waiting(store.waits_for())
                    sleep(0.5)
                    finished = store.finished()
                for lease in [lease for lease, future in running.items() if future.done()]:
                    timeout.learn(lease.run.cell, pool.seconds(running[lease]))
                    finished[lease.run] = running[lease].result()
                    store.finish(lease, finished[lease.run])
                    del running[lease]
                hanging = [c.run for c, future in running.items() if pool.seconds(future) > timeout.of(c.run.cell)]
                if hanging:
                    _require_first(hanging, hung, timeout, listener)
                    pool.restart()
                    for lease in running:
                        running[lease] = pool.submit(run_it, lease.run)
                if time.monotonic() > renewed + LEASE_SECONDS / 6:
                    renewed = time.monotonic()
                    for lease in running:
                        store.renew(lease)
            listener.known(_values(design, finished), len(finished))
        except BrokenExecutor as error:
            raise SteepestError(
                "worker processes must not die",
                got=str(error).splitlines()[0],
                remedy="A common cause is too little memory: try fewer --workers. Finished runs are kept; start again.",
            ) from error
        finally:
            store.patience.seconds = 0.0  # no retries on the way out
            with contextlib.suppress(StorageError):
                for lease in running:
                    store.give_up(lease)
    return finished


def _require_first(hanging: Iterable[Run], hung: set[Run], timeout: RunTimeout, listener: Listener) -> None:
    """Check that no run hangs for the second time, and record those that hang for the first time."""
    for run in hanging:
        longest = in_words(timeout.of(run.cell))
        if run in hung:
            raise SteepestError(
                f"a run must end within {longest}",
                got=f"{run} hung twice",
                remedy="Fix the task, or pass a longer --run-timeout. Finished runs are kept; start again to resume.",
            )
        hung.add(run)
        listener.noticed(f"{run} did not end within {longest}: it is tried once more.")


@contextlib.contextmanager
def _kept(store: Store, lease: Lease) -> Generator[None, None, None]:
    """Renew a lease while this process is busy training; a renewal that fails is tried again at the next interval."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 6):
            store.patience.once(lambda: store.renew(lease))

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _announced(run: Run, seconds: float, listener: Listener) -> Generator[None, None, None]:
    """Notify the listener if a run in this process, which cannot be killed, takes too long."""
    line = f"{run} has not ended within {in_words(seconds)}. With --workers 2 such a run would be tried once more."
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), listener.noticed, [line])
    timer.daemon = True
    if math.isfinite(seconds):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def missing_runs(design: Design, finished: Mapping[Run, History]) -> list[Run]:
    """Return the runs that the protocol requires next; none when it is complete."""
    return next_runs(design, scores_of(design, finished), starts_of(design, finished))


def _values(design: Design, finished: Mapping[Run, History]) -> dict[Run, float]:
    """Return the last value of the measure of every run."""
    return {run: design.measure.natural(score) for run, score in scores_of(design, finished).items()}


def _expected(design: Design, finished: Mapping[Run, History], needed: Sequence[Run]) -> int:
    """Return the approximate number of runs until the next look: those known so far, or those of the budget if more."""
    planned = len(design.cells) * (design.budget.rates * design.budget.tuning_seeds + design.seeds.looks[0])
    if not needed or needed[0].phase == "final":
        return len(finished) + len(needed)
    return max(planned, len(finished) + len(needed) + len(design.cells) * design.seeds.looks[0])
