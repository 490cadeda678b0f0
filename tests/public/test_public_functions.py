"""Every public function, constructor and method under hostile arguments: a result or a SteepestError, nothing else.

A row of the table is a valid call of one of them, and says of each parameter what it must refuse. What is
by walking the package, so a new function, class, method or parameter fails here until it has its row.
"""

from __future__ import annotations

import inspect
import zlib

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.public.calls import CALLS, EXEMPT, TABLE, call
from tests.public.hostile import VALUES
from tests.public.rows import PUBLIC

NAMES = list(VALUES)
EVERY_CALL = pytest.mark.parametrize("name", CALLS)
PARAMETERS = [(name, p) for name in CALLS for p, (_, kind) in CALLS[name].row.arguments.items() if kind.tried]


def test_every_public_name_has_a_row():
    missing = [
        name for name, public in PUBLIC.items() if name not in EXEMPT and not any(row in TABLE for row in public.rows)
    ]
    assert missing == [], "add a row in tests/public/table_<package>.py: a valid call, and what each parameter refuses"


def test_every_row_is_of_a_public_name():
    assert set(TABLE) - {row for public in PUBLIC.values() for row in public.rows} == set(), "take these rows away"


@EVERY_CALL
def test_a_row_has_every_parameter(name):
    parameters = PUBLIC[name].parameters()
    takes_more = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    row = set(CALLS[name].row.arguments)
    assert set(parameters) - row == set(), "add them to the row, each with a valid value and its kind"
    assert takes_more or row <= set(parameters), "take away what is no parameter"


@EVERY_CALL
def test_a_parameter_refuses_something_or_says_why_it_does_not(name):
    for parameter, (_, kind) in CALLS[name].row.arguments.items():
        assert bool(kind.refused) != bool(kind.reason), parameter


@EVERY_CALL
def test_the_valid_call_of_a_row_is_valid(name):
    assert call(name).kind == "result", call(name)


@EVERY_CALL
def test_what_a_parameter_does_not_take_is_refused(name):
    accepted = []
    for parameter, (_, kind) in CALLS[name].row.arguments.items():
        for value, make in kind.refused.items():
            outcome = call(name, **{parameter: make})
            if outcome.kind != "refused":
                accepted.append(f"{parameter} = {value}: {outcome}")
    assert accepted == []


@EVERY_CALL
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_one_or_two_hostile_arguments_give_a_result_or_a_refusal(name, data):
    hostile_call(name, data)


@pytest.mark.slow
@EVERY_CALL
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_many_pairs_of_hostile_arguments_give_a_result_or_a_refusal(name, data):
    hostile_call(name, data)


def hostile_call(name: str, data: st.DataObject) -> None:
    row = CALLS[name].row
    free = [p for p, (_, kind) in row.arguments.items() if kind.tried]
    if not free:
        return
    parameters = data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=2, unique=True))
    # Hypothesis draws alike for every row: each begins at a place of its own, so that together they try all values.
    offset = zlib.crc32(name.encode())
    drawn = [NAMES[(data.draw(st.integers(0, len(NAMES) - 1)) + offset) % len(NAMES)] for _ in parameters]
    given = dict(zip(parameters, drawn, strict=True))
    assume(not any(value in row.costly for value in drawn))
    outcome = call(name, **{parameter: VALUES[value] for parameter, value in given.items()})
    assert outcome.fine, f"{name} with {given}: {outcome}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_every_hostile_value_of_every_parameter_gives_a_result_or_a_refusal(name, parameter):
    failing = []
    for value, make in VALUES.items():
        if value not in CALLS[name].row.costly:
            outcome = call(name, **{parameter: make})
            if not outcome.fine:
                failing.append(f"{value}: {outcome}")
    assert failing == []
