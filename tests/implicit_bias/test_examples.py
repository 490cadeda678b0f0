"""The examples of this package are run, in a process of their own, and what they print is what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^(?P<name>\S.*?) {2,}(?P<distance>\S+) +(?P<residual>\S+) +(?P<error>\S+)%$", re.MULTILINE)
CHECK = re.compile(
    r"^certify (?P<name>.+): (?P<passed>\d) of 5 classes pass, relative error up to (?P<error>\S+)$", re.M
)
SOLVED = 1e-9


class End(NamedTuple):
    """One line of the printed table."""

    distance: float
    residual: float
    error: float


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "linear_probe.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ends(printed) -> dict[str, End]:
    return {row["name"]: End(*(float(row[field]) for field in End._fields)) for row in ROW.finditer(printed)}


def test_the_probe_prints_every_end_and_both_certificates(printed, ends):
    assert list(ends) == [
        "start",
        "D frozen, predicted",
        "D frozen, trained",
        "plain SGD, predicted",
        "plain SGD, trained",
        "Adam itself, trained",
    ]
    assert [check["name"] for check in CHECK.finditer(printed)] == ["D frozen, trained", "plain SGD, trained"]


def test_predictions_solve_the_equations_that_the_start_does_not(ends):
    assert ends["start"].distance == 1
    assert ends["start"].residual > 0.1
    assert max(ends["D frozen, predicted"].residual, ends["plain SGD, predicted"].residual) < SOLVED


def test_with_the_preconditioner_frozen_training_ends_where_predicted(ends):
    predicted, trained = ends["D frozen, predicted"], ends["D frozen, trained"]
    assert predicted.distance == 0
    assert trained.distance < 1e-6
    assert trained.error == predicted.error


def test_plain_sgd_converges_elsewhere_and_where_predicted_too(ends):
    predicted, trained = ends["plain SGD, predicted"], ends["plain SGD, trained"]
    assert predicted.distance > 0.5
    assert (trained.distance, trained.error) == (predicted.distance, predicted.error)


def test_adam_itself_comes_to_rest_near_the_frozen_prediction_but_not_there(ends):
    adam = ends["Adam itself, trained"]
    assert adam.residual < 1e-3
    assert 0.05 < adam.distance < 0.3 < ends["plain SGD, predicted"].distance


def test_the_ends_of_the_runs_are_certified(printed):
    for check in CHECK.finditer(printed):
        assert check["passed"] == "5"
        assert float(check["error"]) < 1e-6


def test_the_start_has_the_least_test_error_as_the_example_says(ends):
    start, *others = ends.values()
    assert 0 < start.error < min(end.error for end in others) < 30
