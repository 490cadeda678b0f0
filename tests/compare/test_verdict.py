"""What may not be said: of seeds that make no difference, and of runs that all diverged."""

import functools
import json
import math

import pytest
import torch
from torch import nn

from steepest.compare import Budget, compare
from steepest.init import Constant, Normal
from steepest.report import write
from steepest.tasks import Task

SMALL = Budget(rates=5, tuning_seeds=1)


def trial(task, *optimizers, **options):
    return compare(task, optimizers or ["sgd", "adamw"], **{"seeds": 4, "budget": SMALL, "workers": 1, **options})


def regression(**changes):
    x = 24**0.5 * torch.linalg.qr(torch.randn(24, 3, generator=torch.Generator().manual_seed(0)))[0]
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1 * torch.randn(24, 1, generator=torch.Generator().manual_seed(1))
    given = {
        "model": lambda: nn.Linear(3, 1),
        "loss": nn.functional.mse_loss,
        "train": (x, y),
        "valid": (x, y),
        "batch_size": 24,
        "steps": 10,
    }
    return Task(**{**given, **changes})


def fixed():
    """A model whose start does not depend on the trial's seed."""
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_a_task_that_fixes_its_own_seed_gets_no_verdict(tmp_path):
    comparison = trial(regression(model=fixed))
    verdict = comparison.verdict
    assert verdict.choice is None
    assert "No verdict: the runs of" in verdict.headline
    assert "do not depend on the seed" in verdict.headline
    assert "sgd" in verdict.headline
    assert "adamw" in verdict.headline
    assert "set no seed in the task" in str(verdict)
    assert {pair.better for pair in verdict.differences} == {None}
    assert all(pair.seedless for pair in verdict.differences)
    page = write(comparison, tmp_path).read_text()
    assert "do not depend on the seed" in page
    assert "Differences from" not in page
    assert json.loads((tmp_path / "results.json").read_text())["choice"] is None


def test_the_same_task_whose_start_or_order_depends_on_the_seed_gets_one():
    for task in (regression(), regression(model=fixed, batch_size=4)):
        verdict = trial(task).verdict
        assert "No verdict" not in verdict.headline
        assert not any(pair.seedless for pair in verdict.differences)


def test_runs_that_reach_one_minimum_from_different_starts_get_no_verdict_and_other_words():
    x, y = (tensor.double() for tensor in regression().train)
    task = regression(model=lambda: nn.Linear(3, 1).double(), train=(x, y), valid=(x, y), steps=60)
    comparison = trial(task, "l2", functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5))
    assert len({history.valid_loss[0] for history in comparison.final_histories(comparison.baseline_cell)}) == 4
    verdict = comparison.verdict
    assert verdict.choice is None
    assert "each end at one value whatever the seed" in verdict.headline
    assert "They are 0.00" in str(verdict)


def nowhere(init):
    """Every loss is infinite from the start on."""
    return trial(regression(), inits=[init])


@pytest.mark.parametrize("init", [Constant(1e30), Normal(1e30)], ids=str)
def test_if_every_run_diverged_from_its_start_on_that_is_the_verdict(init, tmp_path):
    comparison = nowhere(init)
    assert comparison.verdict.headline == "No verdict: every run of every alternative diverged."
    assert comparison.verdict.differences == ()
    assert {standing.diverged for standing in comparison.table()} == {4}
    assert {standing.steps_to_target for standing in comparison.table()} == {math.inf}
    assert "every run of every alternative diverged" in write(comparison, tmp_path).read_text()
    data = json.loads((tmp_path / "results.json").read_text())
    assert (data["choice"], data["target"], data["ranking"][0]["value"]["estimate"]) == (None, None, None)
    for display in (comparison.ranking(), comparison.curves(), comparison.learning_rates()):
        display.plot()


def test_if_every_run_diverged_later_that_is_the_verdict_too(tmp_path):
    task = regression(loss=lambda output, target: Exploding.apply(nn.functional.mse_loss(output, target)))
    comparison = trial(task)
    assert comparison.verdict.headline == "No verdict: every run of every alternative diverged."
    assert all(math.isfinite(standing.value.estimate) for standing in comparison.table())
    write(comparison, tmp_path)


class Exploding(torch.autograd.Function):
    """A loss whose gradient is not finite."""

    @staticmethod
    def forward(_, loss):
        return loss.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * math.nan
