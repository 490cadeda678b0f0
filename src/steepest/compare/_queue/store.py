"""The storage of finished runs in an Optuna study, so that an interrupted comparison can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from steepest.compare._design import Cell, Design, Run
from steepest.compare._identity.identity import Identity, digest
from steepest.compare._identity.selection import Past, Selection
from steepest.compare._queue.database import open_study, quiet, storage_errors
from steepest.compare._queue.owner import Owner
from steepest.compare._queue.rows import history_of, run_of
from steepest.compare._queue.url import Location
from steepest.train import History

__all__ = ["Lease", "Store"]

_QUEUE_LENGTH = 16
_PLAN = "plan "  # how the names of plans begin among the study's attributes
_DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-30, 1e30, log=True),
    "seed": IntDistribution(0, 2**31),
}
_ALIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)


@dataclass(frozen=True)
class Lease:
    """A run that this process has taken from the queue."""

    trial: optuna.Trial
    run: Run


class Store:
    """The queue of runs and their results, shared by all processes that open the same storage.

    A run waits in the queue, is claimed by one process, and ends as finished, with its history in one user
    attribute. A claimed run belongs to a process (see `Owner`), which renews its signature at intervals; when the
    process is gone, the run returns to the queue.

    One storage may hold runs of many identities, for example of a task before and after an edit. A `Store` uses only
    runs whose identity is that of one of its cells.

    Args:
        url: Any Optuna storage URL, or the path of a SQLite file; None keeps all in memory.
        identities: The identity of each cell's runs.
        accept_edits: Whether finished runs whose task, optimizer and init have the same names, but another content,
            are used too.
        say: Called with the reason of a wait, and with "" when the wait ends.

    Attributes:
        patience: How calls of the storage are retried.

    Raises:
        StorageError: If the storage cannot be opened.
    """

    def __init__(
        self,
        url: Location | None,
        identities: Mapping[Cell, Identity],
        *,
        accept_edits: bool = False,
        say: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._waiting = 0
        self._finished: dict[Run, History] = {}
        self._owner = Owner()
        with storage_errors(url), quiet():
            self._study, self.patience = open_study(url, say)
            self.selection = Selection(self._study, identities)
            self.selection.look(self.past(), accept_edits=accept_edits)

    def past(self) -> list[Past]:
        """Return every finished run with the same names, whatever the code and the data were when it ran."""
        return [
            Past(run_of(trial), trial.user_attrs["identity"], trial.datetime_complete or datetime.min)
            for trial in self._all(TrialState.COMPLETE)
            if self.selection.cell(trial.user_attrs.get("identity")) is not None
        ]

    def finished(self) -> dict[Run, History]:
        """Return the history of every finished run."""
        accepted = [t for t in self._all(TrialState.COMPLETE) if self.selection.accepts(t.user_attrs.get("identity"))]
        for trial in (*self._trials(TrialState.COMPLETE), *accepted):  # its own first
            run = run_of(trial)
            if run not in self._finished:
                self._finished[run] = history_of(trial)
        return dict(self._finished)

    def enter_plan(self, design: Design) -> int:
        """Store what the statistics of this trial are fixed to before its first run, if it is not stored yet.

        Returns:
            The number of other plans that were stored before it and share runs with it.
        """
        plan = {
            "cells": sorted(self.selection.register(cell) for cell in design.cells),
            "looks": list(design.seeds.looks),
            "measure": dataclasses.asdict(design.measure),
            "budget": [design.budget.rates, design.budget.tuning_seeds],
        }
        name = _PLAN + digest(plan)
        known = {
            key: value
            for key, value in self._study.user_attrs.items()
            if key.startswith(_PLAN) and isinstance(value, dict) and isinstance(value.get("number"), int)
        }
        if name not in known:
            known[name] = {**plan, "number": len(known)}
            self._study.set_user_attr(name, known[name])
        return sum(
            other["number"] < known[name]["number"] and any(map(self.selection.includes, other.get("cells", ())))
            for other in known.values()
        )

    def enqueue(self, runs: Collection[Run]) -> int:
        """Queue the first runs that are not yet queued, claimed or finished; release those whose owner is gone.

        The queue is kept short, as every claim reads all of it.

        Returns:
            The number of runs that wait in the queue.
        """
        for trial in self._trials(TrialState.RUNNING):
            if self._owner.is_abandoned(trial):
                self._close(trial.number)
        trials = self._trials(*_ALIVE)
        known = {run_of(trial) for trial in trials}
        self._waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        for run in runs:
            if run not in known and self._waiting < _QUEUE_LENGTH:
                self._waiting += 1
                self._study.add_trial(
                    create_trial(
                        state=TrialState.WAITING,
                        params={"learning_rate": run.lr, "seed": run.seed},
                        distributions=_DISTRIBUTIONS,
                        user_attrs={
                            "optimizer": run.cell.optimizer,
                            "init": run.cell.init,
                            "grid_index": run.grid_index,
                            "identity": self.selection.register(run.cell),
                            **({"repeat": True} if run.repeat else {}),
                        },
                    )
                )
        return self._waiting

    def claim(self) -> Lease | None:
        """Take the first run of the queue; None if the queue, as `enqueue` last saw it, is empty."""
        while self._waiting:
            self._waiting -= 1
            trial = self._take()
            if trial is None:  # another process took the last one just now
                self._waiting = 0
                continue
            lease = Lease(trial, run_of(trial))
            self.renew(lease)
            alike = [t for t in self._trials(*_ALIVE) if run_of(t) == lease.run]
            if any(t.number < trial.number for t in alike):  # two processes queued it at once: the first is kept
                self._close(trial.number)
            elif any(t.number == trial.number and self._owner.is_mine(t) for t in alike):
                return lease
            # Else two processes took the same run, as SQLite cannot lock a row: the last to sign has it. Should both
            # run it, the first result is kept, and they are the same.
        return None

    def renew(self, lease: Lease) -> None:
        """Renew the signature that shows that this process is alive and has the run."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process took it for dead
            lease.trial.set_user_attr("owner", self._owner.signed())

    def waits_for(self) -> str:
        """Return a sentence on which processes have the unfinished runs."""
        runs = self._trials(TrialState.RUNNING)
        if not runs:
            return ""
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        return f"waiting for {run_of(runs[0])}{more}: {self._owner.describe(runs[0])}"

    def finish(self, lease: Lease, history: History) -> None:
        """Store a run's result, unless another process has taken over and finished the run."""
        with quiet(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            lease.trial.set_user_attr("history", history.to_json())
            self._study.tell(lease.trial, history.valid_loss[-1], skip_if_finished=True)

    def give_up(self, lease: Lease) -> None:
        """Close a run without a result; it will be queued again when it is needed."""
        self._close(lease.trial.number)

    def _close(self, number: int) -> None:
        with quiet(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _take(self) -> optuna.Trial | None:
        """Take a waiting run as `Study.ask` does, but of this comparison only."""
        for trial in self._trials(TrialState.WAITING):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                if self._study._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                    return optuna.Trial(self._study, trial._trial_id)
        return None

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return this comparison's own runs."""
        return [trial for trial in self._all(*states) if self.selection.includes(trial.user_attrs.get("identity"))]

    def _all(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)
