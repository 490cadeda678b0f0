"""Whether an audit keeps to its budget and its time, and says which of them ended it."""

import time

import pytest
import torch

from steepest.estimators import FiniteDifference, Pathwise, ScoreFunction, audit, pointwise


class Counted:
    """An objective that counts its points and waits at each, if told to."""

    def __init__(self, wait=0.0):
        self.count, self.wait = 0, wait

    def __call__(self, x):
        self.count += len(x)
        return (3 * x + x.square()).sum(-1)

    def one(self, x):
        """f at one point."""
        self.count += 1
        time.sleep(self.wait)
        return float((3 * x + x.square()).sum())


UNIFORM = torch.distributions.Uniform(-1.0, 1.0)


@pytest.mark.parametrize(
    ("size", "budget", "estimator"),
    [
        pytest.param(
            size, budget, estimator, marks=[] if budget == 1000 or (size, budget) == (1, 10_000) else [pytest.mark.slow]
        )
        for size in (1, 2, 5, 40)
        for budget in (1000, 10_000, 100_000)
        for estimator in (ScoreFunction(0.3, 20), Pathwise(0.3, 20, distribution=UNIFORM))
    ],
    ids=str,
)
def test_the_budget_is_that_of_the_whole_audit(size, budget, estimator):
    f = Counted()
    found = audit(estimator, f, torch.full((size,), 0.7), budget=budget)
    # Where calls are made at once by torch.vmap, the length of x is that of one of them.
    assert f.count <= found.evaluations <= budget
    assert found.fault in (None, "undecided"), str(found)
    if found.fault:
        assert "The budget ended it" in found.reason


@pytest.mark.parametrize("wait", [0.0, 5e-4, 0.05])
@pytest.mark.parametrize("size", [2, 3, 300])
def test_the_time_is_that_of_the_whole_audit(wait, size):
    f = Counted(wait)
    began = time.perf_counter()
    found = audit(ScoreFunction(0.3, 20), pointwise(f.one, vectorize=False), torch.full((size,), 0.7), seconds=0.3)
    assert time.perf_counter() - began < 0.3 + wait + 0.3
    assert f.count == found.evaluations
    assert found.fault == "undecided", str(found)
    assert "The time ended it" in found.reason


def test_what_is_wrong_is_named_as_far_as_the_limits_allow():
    def half(objective, x, generator=None):
        found = ScoreFunction(0.3, 20)(objective, x, generator)
        found.gradient = found.gradient / 2
        return found

    f = Counted()
    found = audit(half, f, torch.full((2,), 0.7), sigma=0.3, budget=20_000)
    assert f.count <= 20_000
    assert found.fault in ("wrong step", "wrong factor"), str(found)


def test_tensors_by_name_keep_to_the_time_too():
    x = {"a": torch.ones(2), "b": torch.tensor(0.3)}
    began = time.perf_counter()
    found = audit(ScoreFunction(0.3, 20), lambda p: (p["a"] ** 2).sum() + p["b"].sin(), x, seconds=0.4)
    assert time.perf_counter() - began < 0.8
    assert found.fault is None or "The time ended it" in found.reason


def test_a_difference_along_all_coordinates_that_is_not_affordable_is_undecided():
    f = Counted()
    found = audit(FiniteDifference(), f, torch.ones(400), budget=1000)
    assert found.fault == "undecided"
    assert f.count == found.evaluations <= 1000


@pytest.mark.parametrize("size", [2, 5])
def test_a_small_budget_suffices_for_some_estimates(size):
    found = audit(ScoreFunction(0.3, 20), Counted(), torch.full((size,), 0.7), budget=10_000)
    assert found.repetitions > 100
    assert "could not be found" not in found.reason
    assert found.standard_error.isfinite().all()
