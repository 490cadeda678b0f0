"""What a task reports: one metric or several, with their names and directions."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument
from steepest.tasks import Metric, Task, accuracy

X, Y = torch.eye(3).repeat(4, 1), torch.arange(12) % 3


def task(metric):
    return Task(
        model=lambda: nn.Linear(3, 3),
        loss=nn.functional.cross_entropy,
        train=(X, Y),
        valid=(X, Y),
        batch_size=5,
        metric=metric,
    )


def errors(output, target):
    return (output.argmax(1) != target).float().mean()


class Counted:
    """Counts batches, and says its direction as torchmetrics does."""

    higher_is_better = False

    def __init__(self):
        self.batches = 0

    def update(self, _output, _target):
        self.batches += 1

    def compute(self):
        return self.batches


class Raising:
    """Raises at every attribute that it does not have."""

    def __call__(self, _output, _target):
        return 0.0

    def __getattr__(self, name):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("given", "name", "direction"),
    [
        (accuracy, "accuracy", True),
        (errors, "errors", None),
        (Metric(errors, higher_is_better=False), "errors", False),
        (Metric(accuracy, higher_is_better=False, name="worst"), "worst", False),
        (functools.partial(accuracy), "accuracy", True),
        (Counted(), "Counted", False),
        (Metric(Counted(), higher_is_better=True), "Counted", True),
        (nn.L1Loss(), "L1Loss", None),
    ],
)
def test_a_metric_has_its_own_name_and_direction_unless_others_are_given(given, name, direction):
    metrics = task(given).metrics
    assert {key: metric.name for key, metric in metrics.items()} == {name: name}
    assert metrics[name].higher_is_better is direction


def test_a_metric_that_raises_at_unknown_attributes_has_no_direction():
    assert Metric(Raising(), name="odd").higher_is_better is None


def test_several_metrics_are_called_by_the_names_of_the_mapping_and_each_sees_all_validation_data():
    made = task({"right": accuracy, "wrong": Metric(errors, higher_is_better=False, name="unused"), "n": Counted()})
    assert {name: metric.higher_is_better for name, metric in made.metrics.items()} == {
        "right": True,
        "wrong": False,
        "n": False,
    }
    assert made.metric_name == "right"
    _, values = made.validate(made.build(0))
    assert list(values) == ["right", "wrong", "n"]
    assert values["right"] + values["wrong"] == pytest.approx(1.0)
    assert values["n"] == 3


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({}, r"a mapping of metrics must not be empty \(got {}\). Pass metric=None."),
        ({1: accuracy}, r"a metric's name must be a string \(got 1\)"),
        ({"": accuracy}, r"a metric's name must not be empty"),
        ({"loss": accuracy}, r"a metric's name must not be loss, which is that of the validation loss"),
        ({"a": None}, r"a task's metric must be a function, or an object with update and compute \(got None\)"),
        ({"a": {"b": accuracy}}, r"a task's metric must be a function, or an object"),
        (Counted, r"a task's metric must be a function, .* Pass an instance, not a class."),
    ],
)
def test_what_is_no_metric_is_refused(metric, message):
    with pytest.raises(InvalidArgument, match=message):
        task(metric)


def test_a_value_that_is_no_number_names_its_metric():
    made = task({"right": accuracy, "vector": lambda output, _: output})
    with pytest.raises(Exception, match=r"a task's metric vector must be one number \(got 'shape \(12, 3\)'\)"):
        made.check()
