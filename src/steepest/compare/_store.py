"""Where finished runs are kept: an Optuna study, so that a comparison survives whatever stops it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
import warnings
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import IntegrityError, OperationalError

from steepest.compare._plan import Cell, Run
from steepest.diagnose import Diagnosis
from steepest.errors import StorageError
from steepest.train import FeatureChange, History, Spectrum

__all__ = ["LEASE_SECONDS", "Claim", "Store", "without_password"]

LEASE_SECONDS = 120.0
"""A run whose owner has not been heard of for so long is given to another."""

_STUDY = "steepest"
_QUEUE_LENGTH = 16
_SIGNING_SECONDS = 10.0
_ALIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)


@dataclass(frozen=True)
class Claim:
    """A run that this process has taken from the queue."""

    trial: optuna.Trial
    run: Run


class Store:
    """The queue of runs and their results, shared by everyone who opens the same storage.

    A run waits in the queue, is claimed by one process, and ends as finished, with its history in one user
    attribute. A claimed run belongs to a process that is known by host and number and says every now and then
    that it is alive; when it is not, the run goes back to the queue. Times are those of the claiming hosts, so
    hosts that share a storage need clocks that agree within a minute.

    Args:
        url: Any Optuna storage URL; None keeps all in memory.
        identity: What makes this comparison this one; a storage with another identity is refused.
        cells: All cells that a run can belong to.

    Raises:
        StorageError: If the storage cannot be opened or belongs to another comparison.
    """

    def __init__(self, url: str | None, identity: Mapping[str, Any], cells: Collection[Cell]) -> None:
        self._waiting = 0
        self._finished: dict[Run, History] = {}
        self._owner = {"host": socket.gethostname(), "pid": os.getpid()}
        self._distributions: dict[str, BaseDistribution] = {
            "optimizer": CategoricalDistribution(sorted({cell.optimizer for cell in cells})),
            "init": CategoricalDistribution(sorted({cell.init for cell in cells})),
            "learning_rate": FloatDistribution(1e-30, 1e30, log=True),
            "seed": IntDistribution(0, 2**31),
        }
        with _storage_errors(url), _quiet():
            self._study = _open_study(url)
            known = self._study.user_attrs.get("identity")
            if known is None:
                self._study.set_user_attr("identity", dict(identity))
        if known is not None and known != identity:
            differing = [key for key in identity if known.get(key) != identity[key]]
            raise StorageError(
                "a storage belongs to one comparison",
                got="; ".join(f"{key} {known.get(key)!r} there, {identity[key]!r} here" for key in differing),
                remedy="Choose another --out or --storage; nothing was changed.",
            )

    def finished(self) -> dict[Run, History]:
        """Return every finished run with what it left."""
        for trial in self._trials(TrialState.COMPLETE):
            run = _run_of(trial)
            if run not in self._finished:
                self._finished[run] = _history_of(trial)
        return dict(self._finished)

    def enqueue(self, runs: Collection[Run]) -> int:
        """Queue the first of the runs that nobody has queued, claimed or finished; free those whose owner is gone.

        The queue is kept short, as every claim reads all of it.

        Returns:
            How many runs are waiting in the queue.
        """
        for trial in self._trials(TrialState.RUNNING):
            if self._is_abandoned(trial):
                self._close(trial.number)
        trials = self._trials(*_ALIVE)
        known = {_run_of(trial) for trial in trials}
        self._waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        for run in runs:
            if run not in known and self._waiting < _QUEUE_LENGTH:
                self._waiting += 1
                self._study.add_trial(
                    create_trial(
                        state=TrialState.WAITING,
                        params={
                            "optimizer": run.cell.optimizer,
                            "init": run.cell.init,
                            "learning_rate": run.lr,
                            "seed": run.seed,
                        },
                        distributions=self._distributions,
                        user_attrs={"notch": run.notch},
                    )
                )
        return self._waiting

    def claim(self) -> Claim | None:
        """Take the first run of the queue; None if the queue, as `enqueue` last saw it, is empty."""
        while self._waiting:
            self._waiting -= 1
            with _quiet():
                trial = self._study.ask()
            if "notch" not in trial.user_attrs:  # another process took the last one just now
                self._waiting = 0
                self._close(trial.number)
                continue
            claim = Claim(trial, _run_of(trial))
            self.renew(claim)
            alike = [t for t in self._trials(*_ALIVE) if _run_of(t) == claim.run]
            if any(t.number < trial.number for t in alike):  # two processes queued it at once: the first stands
                self._close(trial.number)
            elif any(t.number == trial.number and self._is_mine(t) for t in alike):
                return claim
            # Else two took the same one, as SQLite cannot lock a row: the last to sign has it. Should both run it, the
            # first result stands, and they are the same.
        return None

    def renew(self, claim: Claim) -> None:
        """Say that this process is alive and still has the run."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # somebody thought that it is not
            claim.trial.set_user_attr("owner", {**self._owner, "seen": time.time()})

    def finish(self, claim: Claim, history: History) -> None:
        """Keep a run's result; if another process took the run over meanwhile, that one's stands."""
        with _quiet(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            claim.trial.set_user_attr("history", json.dumps(dataclasses.asdict(history)))
            self._study.tell(claim.trial, history.valid_loss[-1], skip_if_finished=True)

    def give_up(self, claim: Claim) -> None:
        """Close a run without a result; it will be queued again when it is needed."""
        self._close(claim.trial.number)

    def _is_mine(self, trial: FrozenTrial) -> bool:
        return {**trial.user_attrs["owner"], "seen": None} == {**self._owner, "seen": None}

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner is None:  # its process is, or was stopped, between claiming and signing
            started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            return time.time() - started > _SIGNING_SECONDS
        if owner["host"] == self._owner["host"] and not _is_alive(owner["pid"]):
            return True
        return time.time() - owner["seen"] > LEASE_SECONDS

    def _close(self, number: int) -> None:
        with _quiet(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        # A trial without a notch is what `ask` makes of an empty queue, until whoever asked closes it.
        return [t for t in self._study.get_trials(deepcopy=False, states=states) if "notch" in t.user_attrs]


def _open_study(url: str | None) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    for patience in (0.1, 0.5, 2.0, None):
        try:
            return optuna.create_study(storage=url, study_name=_STUDY, sampler=sampler, load_if_exists=True)
        except (OperationalError, IntegrityError):
            # Two processes that open a new storage at once trip over each other's tables.
            if patience is None:
                raise
            time.sleep(patience)
    raise AssertionError("unreachable")


def _history_of(trial: FrozenTrial) -> History:
    found = json.loads(trial.user_attrs["history"])
    said = found.pop("diagnosis")
    evidence, parameters = tuple(said.pop("evidence")), tuple(said.pop("parameters"))
    features = found.pop("features", None)  # histories of earlier versions have none
    if isinstance(features, dict):
        start, end = Spectrum(**features.pop("start")), Spectrum(**features.pop("end"))
        features = FeatureChange(**features, start=start, end=end)
    return History(**found, features=features, diagnosis=Diagnosis(**said, evidence=evidence, parameters=parameters))


def _run_of(trial: FrozenTrial | optuna.Trial) -> Run:
    params = trial.params
    return Run(Cell(params["optimizer"], params["init"]), trial.user_attrs["notch"], params["seed"])


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 means something else there; the lease decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep Optuna's log lines to itself, and leave its setting as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def _storage_errors(url: str | None) -> Generator[None, None, None]:
    """Turn what a database or its driver raises into one line without the password."""
    try:
        yield
    except Exception as error:
        raise StorageError(
            "the storage must be a database that Optuna can open and write",
            got=f"{without_password(url or 'memory')}: {type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="Check the URL and its permissions, or leave --storage out to use a file in --out.",
        ) from error


def without_password(url: str) -> str:
    """Return a storage URL as it may be shown.

    >>> without_password("postgresql://me:secret@host/trial")
    'postgresql://me@host/trial'
    """
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}"
