"""Executes what the protocol asks for, until it asks for nothing."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait

from steepest.compare._interrupts import DeferredInterrupts
from steepest.compare._lease import LEASE_SECONDS
from steepest.compare._plan import Plan, Run
from steepest.compare._progress import Listener
from steepest.compare._store import Claim, Store
from steepest.compare._timeout import RunTimeout, in_words
from steepest.compare._tuning import next_runs
from steepest.compare._workers import Bench, worker_processes
from steepest.errors import SteepestError, StorageError
from steepest.train import History

__all__ = ["gather", "losses_of"]


_TICK = 1.0  # seconds, after which it is looked whether a run hangs
_UNTOLD = 5.0  # seconds, for which others are waited for without a word


def gather(
    plan: Plan, store: Store, bench: Bench, workers: int, listener: Listener, timeout: RunTimeout
) -> dict[Run, History]:
    """Execute what the protocol asks for until it asks for nothing.

    Raises:
        SteepestError: If a worker process dies, or a run hangs twice.
        StorageError: If the storage is away for too long, or is no longer what it was.
    """
    running: dict[Claim, Future[History]] = {}
    hung: set[Run] = set()
    finished = store.finished()
    renewed = idle_since = time.monotonic()
    with DeferredInterrupts() as interrupts, worker_processes(bench, workers) as pool:

        def sleep(seconds: float) -> None:
            with interrupts.allowed():
                time.sleep(seconds)

        store.patience.sleep, store.patience.say = sleep, listener.waiting
        try:
            while needed := next_runs(plan, losses := losses_of(finished)):
                listener.known(losses, _expected(plan, finished, len(needed)))
                # One more than there are workers, so that none waits while the storage writes.
                while len(running) <= workers:
                    claim = store.claim() or (store.claim() if store.enqueue(needed) else None)
                    if claim is None:
                        break
                    listener.started(claim.run)
                    running[claim] = Future()  # until it is submitted; one worker trains while it is submitted
                    if workers == 1:
                        longest = timeout.of(claim.run.cell)
                        with _kept(store, claim), interrupts.allowed(), _announced(claim.run, longest, listener):
                            running[claim] = pool.submit(claim.run)
                    else:
                        running[claim] = pool.submit(claim.run)
                if running:
                    if time.monotonic() > idle_since + _UNTOLD:
                        listener.waiting("")
                    idle_since = time.monotonic()
                    with interrupts.allowed():
                        wait(running.values(), timeout=_TICK, return_when=FIRST_COMPLETED)
                else:  # what is left is run by other processes
                    if time.monotonic() > idle_since + _UNTOLD:
                        listener.waiting(store.waits_for())
                    sleep(0.5)
                    finished = store.finished()
                for claim in [claim for claim, future in running.items() if future.done()]:
                    timeout.learn(claim.run.cell, pool.seconds(running[claim]))
                    finished[claim.run] = running[claim].result()
                    store.finish(claim, finished[claim.run])
                    del running[claim]
                hanging = [c.run for c, future in running.items() if pool.seconds(future) > timeout.of(c.run.cell)]
                if hanging:
                    _require_first(hanging, hung, timeout, listener)
                    pool.restart()
                    for claim in running:
                        running[claim] = pool.submit(claim.run)
                if time.monotonic() > renewed + LEASE_SECONDS / 6:
                    renewed = time.monotonic()
                    for claim in running:
                        store.renew(claim)
        except BrokenExecutor as error:
            raise SteepestError(
                "the processes that train must live",
                got=str(error).splitlines()[0],
                remedy="Often memory is short: try fewer --workers. Finished runs are kept; start again to go on.",
            ) from error
        finally:
            store.patience.seconds = 0.0  # what has ended waits for nothing
            with contextlib.suppress(StorageError):
                for claim in running:
                    store.give_up(claim)
    return finished


def _require_first(hanging: Iterable[Run], hung: set[Run], timeout: RunTimeout, listener: Listener) -> None:
    """Check that no run hangs for the second time, and take note of the first."""
    for run in hanging:
        longest = in_words(timeout.of(run.cell))
        if run in hung:
            raise SteepestError(
                f"a run must end within {longest}",
                got=f"{run} hung twice",
                remedy="Mend the task, or pass a longer --run-timeout. Finished runs are kept; start again to go on.",
            )
        hung.add(run)
        listener.noticed(f"{run} did not end within {longest}: it is tried once more.")


@contextlib.contextmanager
def _kept(store: Store, claim: Claim) -> Generator[None, None, None]:
    """Renew a claim while this process trains and does nothing else; what fails once is tried again next time."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 6):
            store.patience.once(lambda: store.renew(claim))

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _announced(run: Run, seconds: float, listener: Listener) -> Generator[None, None, None]:
    """Say when a run in this process, which cannot be ended from outside, takes too long."""
    line = f"{run} has not ended within {in_words(seconds)}. With --workers 2 such a run would be tried once more."
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), listener.noticed, [line])
    timer.daemon = True
    if math.isfinite(seconds):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def losses_of(histories: Mapping[Run, History]) -> dict[Run, float]:
    """Return the final validation loss of every run."""
    return {run: history.valid_loss[-1] for run, history in histories.items()}


def _expected(plan: Plan, finished: Mapping[Run, History], needed: int) -> int:
    """Return about how many runs there will be in all: what is known, or the budget if that is more."""
    planned = len(plan.cells) * (plan.budget.rates * plan.budget.tuning_seeds + plan.seeds)
    if any(run.phase == "final" for run in finished):
        return len(finished) + needed
    return max(planned, len(finished) + needed + len(plan.cells) * plan.seeds)
