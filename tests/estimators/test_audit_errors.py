"""Whether standard errors that are wrong are found, also those of single entries, and right ones pass."""

import math

import pytest
import torch

from steepest.estimators import Estimate, ScoreFunction, audit

POINT = torch.tensor([0.7, -0.4])
SOURCE = ScoreFunction(0.3, 20)


def bowl(x):
    """A parabola whose entries have different standard errors."""
    return (x * torch.tensor([1.0, 3.0]) - 0.3).square().sum(-1)


def reporting(change):
    """Return a score function whose standard errors are changed."""

    def source(objective, x, generator=None):
        found = SOURCE(objective, x, generator)
        return Estimate(found.value, found.gradient, change(found.standard_error), 20)

    return source


@pytest.mark.parametrize(
    "change",
    [
        lambda error: error.flip(0),
        lambda error: error * 1.17,
        pytest.param(lambda error: error * 0.83, marks=pytest.mark.slow),
        pytest.param(lambda error: error * torch.tensor([1.5, 1.0]), marks=pytest.mark.slow),
    ],
    ids=["those of other entries", "too large", "too small", "one entry"],
)
def test_wrong_standard_errors_are_found(change):
    found = audit(reporting(change), bowl, POINT, sigma=0.3)
    assert found.fault == "wrong standard error", str(found)


def test_what_is_wrong_with_one_entry_is_said():
    found = audit(reporting(lambda error: error.flip(0)), bowl, POINT, sigma=0.3)
    assert "entry" in found.reason
    assert found.error_ratio == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_standard_errors_within_five_percent_pass(factor):
    found = audit(reporting(lambda error: error * factor), bowl, POINT, sigma=0.3)
    assert (found.fault, found.reason) == (None, ""), str(found)


def test_standard_errors_that_are_not_reported_are_said_to_be_missing():
    none = audit(reporting(lambda error: error * math.nan), bowl, POINT, sigma=0.3)
    assert (none.fault, none.reason) == (None, "It reports no standard errors.")
    one = audit(reporting(lambda error: error * torch.tensor([1.0, math.nan])), bowl, POINT, sigma=0.3)
    assert (one.fault, "Some" in one.reason) == (None, True)
