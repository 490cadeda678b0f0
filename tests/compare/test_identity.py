import math

import pytest

from steepest.compare._identity.identity import Identity, digest

REQUEST = {"task": "mine", "optimizer": "sgd", "init": "he", "steps": 20, "schedule": "cosine", "device": "cpu"}
CONTENT = {
    "settings": {"batch size": 25, "learning rates": "around 0.1"},
    "code": {"mine.py: function loss": "#1234", "mine.py: SCALE": "#56"},
    "values": {"SCALE": "2"},
    "packages": {"numpy": "2.1.0"},
    "examples": {"data of train, example 0": ["float32 (4,)", 1e-6, 0.25, -0.5]},
    "probe": {"the validation loss at the start (seed 0)": 0.5, "the metric at the start (seed 0)": math.nan},
}


def identity(**parts):
    """The identity above, with some names of some parts changed, added or (None) taken away."""
    content = {kind: {**part, **parts.get(kind, {})} for kind, part in CONTENT.items()}
    content = {kind: {name: v for name, v in part.items() if v is not None} for kind, part in content.items()}
    return Identity(
        request={**REQUEST, **parts.get("request", {})}, content=content, versions=parts.get("versions", {})
    )


def test_the_same_content_matches_whatever_the_versions_of_torch_and_steepest():
    assert identity().matches(identity())
    assert identity(versions={"torch": "2.6"}).matches(identity(versions={"torch": "2.7"}))
    assert identity(versions={"torch": "2.6"}).key != identity(versions={"torch": "2.7"}).key


@pytest.mark.parametrize("name", REQUEST)
def test_another_request_is_another_identity_and_no_edit(name):
    other = identity(request={name: 21 if name == "steps" else "other"})
    assert not identity().matches(other)
    assert identity().differences(other) == []


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"code": {"mine.py: function loss": "#9"}}, "mine.py: function loss changed"),
        ({"code": {"mine.py: function loss": None}}, "mine.py: function loss is gone"),
        ({"code": {"mine.py: class Net": "#9"}}, "mine.py: class Net is new"),
        ({"settings": {"batch size": 50}}, "batch size is 50 instead of 25"),
        ({"settings": {"learning rates": "around 1"}}, "learning rates is around 1 instead of around 0.1"),
        ({"values": {"SCALE": "3"}}, "SCALE is 3 instead of 2"),
        ({"values": {"SCALE": "#3"}}, "SCALE changed"),
        ({"values": {"SCALE": "3" * 41}}, "SCALE changed"),
        ({"packages": {"numpy": "2.2.0"}}, "numpy is 2.2.0 instead of 2.1.0"),
        (
            {"examples": {"data of train, example 0": ["float32 (4,)", 1e-6, 0.25, -0.5001]}},
            "data of train changed",
        ),
        (
            {"examples": {"data of train, example 0": ["float64 (4,)", 1e-6, 0.25, -0.5]}},
            "data of train changed",
        ),
        (
            {"examples": {"data of train, example 0": ["float32 (4,)", 1e-6, 0.25]}},
            "data of train changed",
        ),
        (
            {"probe": {"the validation loss at the start (seed 0)": 0.501}},
            "the validation loss at the start (seed 0) is 0.501 instead of 0.5",
        ),
        (
            {"probe": {"the metric at the start (seed 0)": 0.5}},
            "the metric at the start (seed 0) is 0.5 instead of nan",
        ),
    ],
)
def test_a_difference_is_told_in_the_users_words(parts, says):
    assert identity(**parts).differences(identity()) == [says]
    assert not identity(**parts).matches(identity())
    assert not identity().matches(identity(**parts))


@pytest.mark.parametrize(
    "parts",
    [
        {"probe": {"the validation loss at the start (seed 0)": 0.5 * (1 + 0.9e-4)}},
        {"examples": {"data of train, example 0": ["float32 (4,)", 0.9e-6, 0.25 + 0.9e-6, -0.5 - 0.9e-6]}},
        {"values": {"SCALE": None}},
        {"values": {"another": "1"}},
        {"examples": {"data of train, example 7": ["float32 (4,)", 1e-6, 0.0, 0.0]}},
    ],
)
def test_the_last_bits_and_what_only_one_side_looked_at_are_no_difference(parts):
    assert identity(**parts).matches(identity())
    assert identity().matches(identity(**parts))


def test_what_came_out_of_the_first_step_is_told_only_where_nothing_else_explains_it():
    probe = {"the validation loss at the start (seed 0)": 0.7}
    assert identity(probe=probe, packages={"numpy": "3"}).differences(identity()) == ["numpy is 3 instead of 2.1.0"]


def test_many_changed_examples_are_told_once():
    examples = {f"data of train, example {i}": ["float32 (4,)", 1e-6, 0.0, 0.0] for i in range(9)}
    changed = {name: ["float32 (4,)", 1e-6, 1.0, 0.0] for name in examples}
    assert identity(examples=changed).differences(identity(examples=examples)) == ["data of train changed"]


def test_a_name_in_two_parts_is_told_once_and_as_code():
    both = {"code": {"mine.py: SCALE": "#0"}, "values": {"mine.py: SCALE": "3"}}
    assert identity(**both).differences(identity(values={"mine.py: SCALE": "2"})) == [
        "mine.py: SCALE is 3 instead of 2"
    ]


def test_a_digest_depends_on_every_value_and_on_no_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})
