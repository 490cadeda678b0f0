"""How a run stands in a row of the storage, and whether it still stands there as it was written."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import typing
from collections.abc import Generator
from types import NoneType, UnionType
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from steepest.compare._design import Cell, Run
from steepest.compare._queue.database import broken_row
from steepest.diagnose import CAUSES, Diagnosis
from steepest.errors import StorageError
from steepest.train import FeatureChange, History, Spectrum

__all__ = ["history_of", "run_of", "to_text"]

_LARGEST_GRID_INDEX = 240  # learning rates from 1e-30 to 1e30


def run_of(trial: FrozenTrial | optuna.Trial) -> Run:
    """Return which run a trial is.

    Raises:
        StorageError: If it does not say so.
    """
    with _named(trial):
        attributes, seed = trial.user_attrs, trial.params["seed"]
        for name, kind in (("optimizer", str), ("init", str), ("grid_index", int)):
            _require(_fits(attributes[name], kind), f"{name} is {attributes[name]!r}")
        _require(abs(attributes["grid_index"]) <= _LARGEST_GRID_INDEX, f"grid_index is {attributes['grid_index']}")
        return Run(Cell(attributes["optimizer"], attributes["init"]), attributes["grid_index"], seed)


def to_text(history: History) -> str:
    """Return a history as it is stored."""
    return json.dumps(dataclasses.asdict(history))


def history_of(trial: FrozenTrial) -> History:
    """Return what a finished run left.

    Raises:
        StorageError: If it is not what `to_text` writes.
    """
    with _named(trial):
        found = json.loads(trial.user_attrs["history"])
        said = found.pop("diagnosis")
        evidence, parameters = tuple(said.pop("evidence")), tuple(said.pop("parameters"))
        features = found.pop("features", None)  # histories of earlier versions have none
        if isinstance(features, dict):
            start, end = Spectrum(**features.pop("start")), Spectrum(**features.pop("end"))
            features = FeatureChange(**features, start=start, end=end)
        diagnosis = Diagnosis(**said, evidence=evidence, parameters=parameters)
        history = History(**found, features=features, diagnosis=diagnosis)
        _check(history)
        return history


def _check(history: History) -> None:
    for holder in (history, history.diagnosis):
        for name, hint in _hints(type(holder)).items():
            value = getattr(holder, name)
            _require(_fits(value, hint), f"{name} is {str(value)[:60]}")
    lengths = {len(history.steps), len(history.valid_loss), len(history.valid_metric)}
    _require(len(lengths) == 1 and lengths != {0}, "steps, valid_loss and valid_metric differ in length")
    lengths = {len(history.gradient_steps), len(history.train_loss), len(history.mean_gradient_norm)}
    _require(len(lengths) == 1, "gradient_steps, train_loss and mean_gradient_norm differ in length")
    for steps in (history.steps, history.gradient_steps):
        _require(all(a < b for a, b in itertools.pairwise([-1, *steps])), "steps do not ascend")
    _require(all(loss > -math.inf for loss in history.valid_loss), "valid_loss is not a number")
    _require(history.diagnosis.cause in CAUSES, f"the cause is {history.diagnosis.cause[:60]!r}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the type that a dataclass declares."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is UnionType or origin is typing.Union:
        return any(_fits(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, inner[0]) for each in value)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if dataclasses.is_dataclass(hint):
        return isinstance(value, typing.cast("type", hint)) and all(
            _fits(getattr(value, name), kind) for name, kind in _hints(typing.cast("type", hint)).items()
        )
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


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
