"""What an audit says where the objective or the estimator leaves it nothing to compare."""

import pytest
import torch

from steepest.errors import InvalidArgument
from steepest.estimators import Estimate, FiniteDifference, ScoreFunction, audit

POINT = torch.tensor([0.7, -0.4])


def bowl(x):
    """A parabola."""
    return (x - 0.3).square().sum(-1)


def noisy(scale):
    """Return a parabola with noise of its own."""
    generator = torch.Generator().manual_seed(0)

    def f(x):
        return bowl(x) + scale * torch.randn(len(x), generator=generator)

    return f


@pytest.mark.parametrize("scale", [1e-3, 0.3])
def test_differences_of_a_noisy_objective_have_nothing_to_be_compared_with(scale):
    found = audit(FiniteDifference(0.1), noisy(scale), POINT)
    assert found.fault == "undecided", str(found)
    assert "different values at one point" in found.reason
    assert "Factor" not in str(found)


@pytest.mark.parametrize(
    "estimator",
    [ScoreFunction(0.3, 50), pytest.param(FiniteDifference(0.1, 20, 0.3), marks=pytest.mark.slow)],
    ids=str,
)
def test_the_mean_over_perturbations_of_a_noisy_objective_is_known(estimator):
    found = audit(estimator, noisy(0.1), POINT)
    assert found.fault is None, str(found)


def test_an_objective_that_is_not_finite_near_x_is_undecided():
    def logarithm(x):
        return x.sum(-1).log()

    found = audit(ScoreFunction(0.3, 20), logarithm, torch.tensor([0.5, 0.5]))
    assert found.fault == "undecided", str(found)
    assert "NaN or infinite at 0.0" in found.reason
    assert audit(ScoreFunction(0.05, 200), logarithm, torch.tensor([0.5, 0.5])).fault is None
    edge = audit(FiniteDifference(1e-3), lambda x: x.sqrt().sum(-1), torch.tensor([0.0, 0.5]))
    assert edge.fault == "undecided", str(edge)


def test_rounding_is_not_taken_for_an_error_of_the_step():
    def f(x):
        return x.exp().sum(-1)

    found = audit(FiniteDifference(1e-5), f, torch.ones(2))
    assert (found.fault, "rounding" in found.reason, "causes" in found.reason) == (None, True, False), str(found)
    assert audit(FiniteDifference(1e-6), f, torch.ones(2)).fault == "step too small"
    assert audit(FiniteDifference(1.0), f, torch.ones(2)).fault == "step too large"


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (torch.ones(2), "must return an Estimate"),
        (None, "must return an Estimate"),
        (Estimate(torch.tensor(0.0), torch.ones(3)), "structure of x"),
        (Estimate(torch.tensor(0.0), {"a": torch.ones(2)}), "structure of x"),
    ],
    ids=["tensor", "none", "shape", "names"],
)
def test_a_source_that_returns_something_else_is_an_error(returned, told):
    with pytest.raises(InvalidArgument, match=told):
        audit(lambda *_: returned, bowl, POINT)
