import math

import pytest

from steepest.compare import Cell
from steepest.compare._queue.timeout import RunTimeout, parse_duration
from steepest.errors import InvalidArgument

CELL, OTHER = Cell("sgd", "he"), Cell("adamw", "he")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (5, 5.0),
        (0.5, 0.5),
        ("5", 5.0),
        (" 90s ", 90.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1.5H", 5400.0),
        ("2d", 172800),
    ],
)
def test_a_time_is_a_number_of_seconds_or_has_units(text, seconds):
    assert parse_duration("run_timeout", text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        0,
        -1,
        math.nan,
        math.inf,
        True,
        None,
        1j,
        [],
        "",
        "0",
        "-5",
        "nan",
        "inf",
        "1e999",
        "m",
        "5x",
        "10 m 3",
        "1m-2s",
        "0s",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidArgument, match="run_timeout must be"):
        parse_duration("run_timeout", text)


def test_a_time_that_is_given_holds_for_all():
    timeout = RunTimeout(5.0)
    timeout.learn(CELL, 1000.0)
    assert timeout.of(CELL) == timeout.of(OTHER) == 5.0


def test_else_it_is_20_times_the_median_of_the_cell_once_known():
    timeout = RunTimeout()
    assert timeout.of(CELL) == math.inf
    for seconds in (10.0, 1000.0, 11.0):
        timeout.learn(CELL, seconds)
    assert timeout.of(CELL) == 220.0
    assert timeout.of(OTHER) == math.inf


def test_short_runs_have_a_minute():
    timeout = RunTimeout()
    timeout.learn(CELL, 0.01)
    assert timeout.of(CELL) == 60.0
