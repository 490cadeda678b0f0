"""Runs whose parameters are no longer finite."""

from __future__ import annotations

import math

import pytest
import torch
from tests.train.blobs import blobs, error_rate, run, sgd
from torch import Tensor, nn

from steepest.communication import Ring
from steepest.estimators import Estimate
from steepest.train import History, train_distributed


def by_backpropagation(output: Tensor, target: Tensor) -> Tensor:
    """A finite loss, whose gradient is not a number: the derivative of the square root is infinite, times 0."""
    return nn.functional.cross_entropy(output, target) + (0 * output.sum()).abs().sqrt()


def not_a_number(_objective, x, _generator) -> Estimate:
    """A source that returns NaN."""
    return Estimate(torch.ones(()), {name: torch.full_like(each, math.nan) for name, each in x.items()})


def check(found: History) -> None:
    assert found.diverged
    assert (found.steps, found.valid_loss[1:]) == ([0, 3], [math.inf])
    assert math.isfinite(found.valid_loss[0])
    assert math.isnan(found.valid_metrics["error_rate"][-1])


@pytest.mark.parametrize(("loss", "gradient"), [(error_rate, not_a_number), (by_backpropagation, None)])
def test_a_run_whose_parameters_are_not_finite_has_diverged_where_the_loss_is_an_error_rate(loss, gradient):
    # The argmax of NaN is class 0, so that the share of wrong answers is finite.
    check(run(blobs(loss=loss, valid_loss=error_rate), gradient))


def test_a_run_of_several_workers_has_diverged_too():
    task, settings = blobs(loss=error_rate), {"lr": 0.1, "seed": 0, "workers": 2, "scheme": Ring()}
    check(train_distributed(task, sgd, "default", **settings, gradient=not_a_number).history)


def test_parameters_that_are_not_finite_from_the_start_end_the_run_before_its_first_step():
    def broken() -> nn.Module:
        model = nn.Linear(4, 3)
        nn.init.constant_(model.bias, math.nan)
        return model

    found = run(blobs(model=broken, loss=error_rate))
    assert found.diverged
    assert found.steps == [0]


def test_a_mask_of_infinities_among_the_parameters_is_no_divergence_and_large_numbers_are_none():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.mask = nn.Linear(4, 3), nn.Parameter(torch.full((4,), -math.inf))
            self.large, self.count = nn.Parameter(torch.full((3,), 3e38)), nn.Parameter(torch.ones(2).long(), False)
            self.nothing = nn.Parameter(torch.zeros(0))

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) + 0 * self.mask.exp().sum()

    assert not run(blobs(model=Masked), None).diverged
