"""A run as a row of the storage, checked when it is read."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import optuna
from optuna.trial import FrozenTrial

from steepest.compare._design import Cell, Run
from steepest.compare._queue.database import broken_row
from steepest.errors import StorageError
from steepest.train import History

__all__ = ["history_of", "run_of"]

_LARGEST_GRID_INDEX = 240  # learning rates from 1e-30 to 1e30


def run_of(trial: FrozenTrial | optuna.Trial) -> Run:
    """Return the run of a trial.

    Raises:
        StorageError: If the trial's attributes are not those of a run.
    """
    with _named(trial):
        attributes, seed = trial.user_attrs, trial.params["seed"]
        for name, kind in (("optimizer", str), ("init", str), ("grid_index", int)):
            value = attributes[name]
            _require(isinstance(value, kind) and not isinstance(value, bool), f"{name} is {value!r}")
        _require(abs(attributes["grid_index"]) <= _LARGEST_GRID_INDEX, f"grid_index is {attributes['grid_index']}")
        repeat = attributes.get("repeat", False)
        _require(isinstance(repeat, bool), f"repeat is {repeat!r}")
        return Run(Cell(attributes["optimizer"], attributes["init"]), attributes["grid_index"], seed, repeat)


def history_of(trial: FrozenTrial) -> History:
    """Return the history of a finished run.

    Raises:
        StorageError: If it is not what `History.to_json` writes.
    """
    with _named(trial):
        return History.from_json(trial.user_attrs["history"])


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


@contextlib.contextmanager
def _named(trial: FrozenTrial | optuna.Trial) -> Generator[None, None, None]:
    try:
        yield
    except StorageError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        known = {**trial.user_attrs, **trial.params}
        shown = ("optimizer", "init", "learning_rate", "seed")
        run = ", ".join(f"{name} {str(known[name])[:40]}" for name in shown if name in known)
        raise broken_row(trial.number, run, error) from error
