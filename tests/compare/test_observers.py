"""Observers of a trial: whose errors they are, and which runs they see."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys

import optuna
import pytest

from steepest.compare import Budget, compare
from steepest.errors import StorageError, TaskError
from steepest.report import as_json, write

QUICK = {"seeds": 3, "budget": Budget(rates=5, tuning_seeds=1), "workers": 1}


class Counting:
    """Finds how many events there were."""

    def __init__(self):
        self.count = 0

    def __call__(self, _event):
        self.count += 1

    def found(self):
        return {"events": (self.count, 1)}


class Leaving(Counting):
    def found(self):
        sys.exit(0)


class Unfit(Counting):
    def found(self):
        return {1, 2}


class Failing(Counting):
    def __call__(self, _event):
        raise ZeroDivisionError("no luck")


def needy(_argument):
    return Counting()


@pytest.mark.parametrize("make", [Leaving, Unfit, Failing, needy, lambda: sys.exit(0)])
def test_an_observer_that_fails_is_named(tiny_task, make):
    with pytest.raises(TaskError, match="the observer 'mine' must not"):
        compare(tiny_task(), ["sgd"], observers={"mine": make}, **QUICK)


def test_what_is_found_is_the_same_whether_or_not_it_comes_from_a_storage(tiny_task, tmp_path):
    options = {"observers": {"mine": Counting}, "storage": tmp_path / "study.db", **QUICK}
    first, again = (compare(tiny_task(), ["sgd"], **options) for _ in range(2))
    (cell,) = first.design.cells
    seen = [each.observations for each in first.final_histories(cell)]
    assert seen == [each.observations for each in again.final_histories(cell)]
    assert seen[0]["mine"]["events"] == [
        first.final_histories(cell)[0].steps[-1] + len(first.final_histories(cell)[0].steps) + 2,
        1,
    ]
    assert seen[1:] == [{}, {}]


def test_an_observer_that_comes_later_is_said_to_see_new_runs_only(tiny_task, tmp_path):
    options = {"storage": tmp_path / "study.db", **QUICK}
    compare(tiny_task(), ["sgd"], **options)
    again = compare(tiny_task(), ["sgd"], observers={"mine": Counting}, **options)
    assert any("'mine' sees new runs only; 1 finished runs" in line for line in again.notices)


def test_somebody_elses_observer_under_the_name_of_the_features_does_not_lose_the_report(tiny_task, tmp_path):
    comparison = compare(tiny_task(), ["sgd", "adamw"], observers={"features": Counting}, **QUICK)
    assert write(comparison, tmp_path).exists()
    assert {each["refused"] for each in as_json(comparison)["features"]} == {None}


def test_a_stored_run_of_another_length_is_refused(tiny_task, tmp_path):
    options = {"storage": tmp_path / "study.db", **QUICK}
    compare(tiny_task(), ["sgd"], **options)
    study = optuna.load_study(study_name="steepest", storage=f"sqlite:///{tmp_path / 'study.db'}")
    trial = next(t for t in study.trials if t.state.is_finished())
    history = json.loads(trial.user_attrs["history"])
    history["steps"] = [7 * step for step in history["steps"]]
    # Optuna changes no finished trial; the database can.
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = ? AND key = 'history'",
            (json.dumps(json.dumps(history)), trial._trial_id),
        )
    with pytest.raises(StorageError, match="a finished run must have 12 steps"):
        compare(tiny_task(), ["sgd"], **options)
