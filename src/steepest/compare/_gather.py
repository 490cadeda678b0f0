"""Executes what the protocol asks for, until it asks for nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait

from steepest.compare._interrupts import DeferredInterrupts
from steepest.compare._lease import LEASE_SECONDS
from steepest.compare._plan import Plan, Run
from steepest.compare._progress import Listener
from steepest.compare._store import Claim, Store
from steepest.compare._tuning import next_runs
from steepest.compare._workers import Bench, worker_processes
from steepest.errors import SteepestError
from steepest.train import History

__all__ = ["gather", "losses_of"]


def gather(plan: Plan, store: Store, bench: Bench, workers: int, listener: Listener) -> dict[Run, History]:
    """Execute what the protocol asks for until it asks for nothing."""
    running: dict[Claim, Future[History]] = {}
    finished = store.finished()
    renewed = time.monotonic()
    with DeferredInterrupts() as interrupts, worker_processes(bench, workers) as (executor, function):
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
                    with interrupts.allowed() if workers == 1 else contextlib.nullcontext():
                        running[claim] = executor.submit(function, claim.run)
                with interrupts.allowed():
                    wait(running.values(), timeout=LEASE_SECONDS / 6, return_when=FIRST_COMPLETED)
                    if not running:  # what is left is run by other processes
                        time.sleep(0.5)
                if not running:
                    finished = store.finished()
                for claim in [claim for claim, future in running.items() if future.done()]:
                    finished[claim.run] = running[claim].result()
                    store.finish(claim, finished[claim.run])
                    del running[claim]
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
            for claim in running:
                store.give_up(claim)
    return finished


def losses_of(histories: Mapping[Run, History]) -> dict[Run, float]:
    """Return the final validation loss of every run."""
    return {run: history.valid_loss[-1] for run, history in histories.items()}


def _expected(plan: Plan, finished: Mapping[Run, History], needed: int) -> int:
    """Return about how many runs there will be in all: what is known, or the budget if that is more."""
    planned = len(plan.cells) * (plan.budget.rates * plan.budget.tuning_seeds + plan.seeds)
    if any(run.phase == "final" for run in finished):
        return len(finished) + needed
    return max(planned, len(finished) + needed + len(plan.cells) * plan.seeds)
