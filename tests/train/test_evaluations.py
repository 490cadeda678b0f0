"""The evaluations of the loss are counted where they are made."""

from __future__ import annotations

import pytest
import torch
from tests.train.blobs import SCORE, Own, blobs, run

from steepest.estimators import Backprop, Estimate, FiniteDifference, Pathwise, ScoreFunction
from steepest.train._loss import LossOfParameters


@pytest.mark.parametrize("vectorized", [True, False])
def test_evaluations_that_a_source_does_not_report_are_counted_all_the_same(vectorized):
    def silent(objective, x, generator) -> Estimate:
        if vectorized:
            values = torch.vmap(objective)({name: each.expand(20, *each.shape) for name, each in x.items()})
        else:
            values = torch.stack([objective(x) for _ in range(20)])
        estimate = SCORE(lambda p: values.mean() + 0 * p["bias"].sum(), x, generator)
        return Estimate(values.mean(), estimate.gradient)  # counts as one evaluation

    found = run(gradient=silent, evaluations=105)
    assert (found.steps[-1], found.evaluations[0], found.evaluations[-1]) == (4, 20, 100)
    (remark,) = found.remarks
    assert "has cost 1 evaluation of the loss, where it has made 20" in remark


def test_a_source_that_announces_too_few_evaluations_overspends_in_its_first_step_alone():
    class Modest(Own):
        def evaluations(self, x) -> int:  # noqa: ARG002
            return 1

        def __call__(self, objective, x, generator=None) -> Estimate:
            estimate = super().__call__(objective, x, generator)
            return Estimate(estimate.value, estimate.gradient)

    assert run(gradient=Modest(20), evaluations=105).evaluations[-1] == 100


@pytest.mark.parametrize(
    "source",
    [
        SCORE,
        ScoreFunction(sigma=0.1, samples=20, antithetic=False),
        ScoreFunction(sigma=0.1, samples=40, baseline="control-variate"),
        FiniteDifference(),
        FiniteDifference(delta=0.1, samples=3, sigma=0.1, central=False),
        FiniteDifference(samples=4, directions="random"),
        Pathwise(sigma=0.1, samples=4),
        Pathwise(sigma=0.1, samples=4, antithetic=True),
        Backprop(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("together", [1, 1000])
def test_the_sources_report_exactly_what_they_evaluate(source, together):
    task = blobs()
    loss = LossOfParameters(task, task.build(0), "cpu", needs_autograd=True)
    objective = loss.at(next(task.batches(torch.Generator().manual_seed(0))), 0, together)
    estimate = source(objective, loss.parameters, torch.Generator().manual_seed(0))
    assert estimate.evaluations == loss.evaluated


def test_points_of_nested_calls_are_counted():
    task = blobs()
    loss = LossOfParameters(task, task.build(0), "cpu", needs_autograd=True)
    objective = loss.at(next(task.batches(torch.Generator().manual_seed(0))), 0, 1)
    x = loss.parameters
    weights = x["weight"].expand(2, 5, 3, 4)
    torch.vmap(torch.vmap(lambda weight: torch.func.grad(objective)({**x, "weight": weight})["bias"]))(weights)
    assert loss.evaluated == 10
