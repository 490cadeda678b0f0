from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import steepest
from steepest import errors
from steepest.errors import InvalidArgument, OutputError, SteepestError, UnknownName

KINDS = [getattr(errors, name) for name in errors.__all__]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_every_error_class_of_the_module_is_public_and_exported_at_the_top():
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__ and not name.startswith("_")
    }
    assert defined == set(errors.__all__)
    assert all(getattr(steepest, name) is getattr(errors, name) for name in errors.__all__)


@EVERY_KIND
def test_every_error_is_a_steepest_error(kind):
    with pytest.raises(SteepestError, match=r"^a rule\. A remedy\.$"):
        raise kind("a rule", remedy="A remedy.")


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidArgument", ValueError),
        ("UnknownName", ValueError),
        ("ImportFailed", ImportError),
        ("MissingExtra", ImportError),
        ("NonFiniteGradient", ArithmeticError),
        ("OutputError", OSError),
    ],
)
def test_who_catches_the_builtin_kind_catches_ours(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


@EVERY_KIND
def test_a_message_is_the_rule_the_value_received_and_the_remedy(kind):
    error = kind("lr must not be negative", got=-1.0, remedy="Pass lr >= 0.")
    assert str(error) == "lr must not be negative (got -1.0). Pass lr >= 0."
    assert (error.rule, error.got, error.remedy) == ("lr must not be negative", -1.0, "Pass lr >= 0.")


def test_a_rule_that_ends_with_the_full_stop_of_a_message_it_quotes_gets_no_second_one():
    assert str(SteepestError("it raised ValueError: no.", remedy="Do.")) == "it raised ValueError: no. Do."
    assert str(SteepestError("it raised ValueError: no.")) == "it raised ValueError: no."
    assert str(SteepestError("and so on...")) == "and so on..."


def test_without_a_value_or_a_remedy_they_are_left_out():
    assert str(SteepestError("a rule")) == "a rule."
    assert str(SteepestError("a rule", remedy="Do.")) == "a rule. Do."
    assert str(SteepestError("a rule", got="x")) == "a rule (got 'x')."


@EVERY_KIND
@given(rule=st.text(), got=st.none() | st.text() | st.floats(allow_nan=False), remedy=st.text())
def test_a_message_is_one_line_whatever_it_is_made_of(kind, rule, got, remedy):
    message = str(kind(rule, got=got, remedy=remedy))
    assert len(message.splitlines()) == 1
    assert "  " not in message


@pytest.mark.parametrize("carry", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@EVERY_KIND
def test_an_error_crosses_process_borders_with_its_parts(kind, carry):
    error = carry(kind("a rule", got=(1, "x"), remedy="A remedy."))
    assert type(error) is kind
    assert str(error) == "a rule (got (1, 'x')). A remedy."
    assert (error.rule, error.got, error.remedy) == ("a rule", (1, "x"), "A remedy.")


def test_an_output_error_has_no_error_number_to_mislead():
    assert OutputError("a folder must be writable", got="/x").errno is None


def test_an_unknown_name_is_answered_with_the_near_ones_and_all_known_ones():
    error = UnknownName.among("optimizer", "adamv", ["adamw", "adam", "sgd"], also=", or your own")
    assert isinstance(error, InvalidArgument)
    assert str(error) == (
        "there is no such optimizer (got 'adamv'). Did you mean adam or adamw? Known: adamw, adam, sgd, or your own."
    )


def test_a_name_that_resembles_nothing_is_answered_with_all_known_ones():
    error = UnknownName.among("task", "zzz", iter(["digits", "curve"]))
    assert str(error) == "there is no such task (got 'zzz'). Known: digits, curve."


@pytest.mark.parametrize("kind", [k for k in KINDS if issubclass(k, UnknownName)])
def test_among_builds_its_own_class(kind):
    assert type(kind.among("task", "x", ["y"])) is kind


class _Hostile:
    def __repr__(self):
        raise RuntimeError("no")


def test_a_value_that_is_no_plain_one_is_kept_as_it_looks_in_one_short_line():
    assert str(SteepestError("a rule", got=None)) == "a rule (got None)."
    assert str(SteepestError("a rule", got=_Hostile())) == "a rule (got a _Hostile that cannot be shown)."
    error = SteepestError("a rule", got=torch.arange(5000.0).reshape(50, 100))
    assert len(str(error)) < 250
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
