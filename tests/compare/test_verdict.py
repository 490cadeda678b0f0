"""What may not be said: of seeds that make no difference, and of runs that all diverged."""

import functools
import json
import math

import pytest
import torch
from torch import nn

from steepest.compare import Budget, Cell, compare, compare_pairs
from steepest.init import Constant, Normal
from steepest.report import write
from steepest.tasks import Task

SMALL = Budget(rates=5, tuning_seeds=1)
A, B, C = (Cell(name, "he") for name in "abc")


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
    assert verdict.winner is None
    assert "No verdict: the runs of" in verdict.headline
    assert "do not depend on the seed" in verdict.headline
    assert "sgd" in verdict.headline
    assert "adamw" in verdict.headline
    assert "set no seed in the task" in str(verdict)
    assert {pair.better for pair in verdict.pairs} == {None}
    assert all(pair.seedless for pair in verdict.pairs)
    page = write(comparison, tmp_path).read_text()
    assert "do not depend on the seed" in page
    assert page.count("neither loss depends on the seed") == 2
    assert json.loads((tmp_path / "results.json").read_text())["winner"] is None


def test_the_same_task_whose_start_or_order_depends_on_the_seed_gets_one():
    for task in (regression(), regression(model=fixed, batch_size=4)):
        verdict = trial(task).verdict
        assert "No verdict" not in verdict.headline
        assert not any(pair.seedless for pair in verdict.pairs)


def test_runs_that_reach_one_minimum_from_different_starts_get_no_verdict_and_other_words():
    x, y = (tensor.double() for tensor in regression().train)
    task = regression(model=lambda: nn.Linear(3, 1).double(), train=(x, y), valid=(x, y), steps=60)
    comparison = trial(task, "l2", functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5))
    assert len({history.valid_loss[0] for history in comparison.final_histories(comparison.baseline_cell)}) == 4
    verdict = comparison.verdict
    assert verdict.winner is None
    assert "each end at one loss whatever the seed" in verdict.headline
    assert "The losses: 0.00" in str(verdict)


def pairs(a, b, steps=(10.0, 20.0, 30.0)):
    return compare_pairs({A: a, B: b}, {A: list(steps), B: [2 * s for s in steps]})


def test_nothing_is_decided_between_two_that_do_not_depend_on_the_seed():
    for pair in pairs([1.0, 1.0 + 5e-7, 1.0], [2.0, 2.0, 2.0]):
        assert (pair.better, pair.p, pair.more_seeds, pair.seedless) == (None, 1.0, None, True)


def test_one_that_does_not_depend_on_the_seed_is_held_against_one_that_does():
    loss, _ = pairs([1.0, 1.0, 1.0], [2.0, 2.001, 1.999])
    assert loss.better == A
    assert not loss.seedless
    loss, _ = pairs([1.0, 1.0 + 2e-6, 1.0], [2.0, 2.0, 2.0])
    assert loss.better == A


def test_differences_of_less_than_a_millionth_are_ties():
    losses = [1.0, 2.0, 3.0]
    loss, _ = pairs(losses, [v * (1 + 9e-7) for v in losses])
    assert (loss.better, loss.interval.low, loss.interval.high) == (None, 0.0, 0.0)
    loss, _ = pairs(losses, [v * (1 + 2e-6) for v in losses])
    assert loss.interval.estimate != 0


def test_pairs_without_seeds_take_no_part_of_the_error_from_others():
    losses = {A: [1.0, 1.0, 1.0, 1.0], B: [2.0, 2.0, 2.0, 2.0], C: [3.0, 3.1, 3.2, 3.15]}
    found = compare_pairs(losses, {cell: [1.0, 2.0, 3.0, 4.0] for cell in losses})
    assert [pair.seedless for pair in found] == [True, False, False] * 2
    # Six hypotheses; two of them can be decided, and the smaller p-value has the level of the first in Holm's order.
    assert min(pair.alpha for pair in found if not pair.seedless) == pytest.approx(0.05 / 6)


def nowhere(init):
    """Every loss is infinite from the start on."""
    return trial(regression(), inits=[init])


@pytest.mark.parametrize("init", [Constant(1e30), Normal(1e30)], ids=str)
def test_if_every_run_diverged_from_its_start_on_that_is_the_verdict(init, tmp_path):
    comparison = nowhere(init)
    assert comparison.verdict.headline == "No verdict: every run of every alternative diverged."
    assert comparison.verdict.pairs == ()
    assert {standing.diverged for standing in comparison.table()} == {4}
    assert {standing.steps_to_target for standing in comparison.table()} == {math.inf}
    assert "every run of every alternative diverged" in write(comparison, tmp_path).read_text()
    data = json.loads((tmp_path / "results.json").read_text())
    assert (data["winner"], data["target"], data["ranking"][0]["loss"]["estimate"]) == (None, None, None)
    for display in (comparison.ranking(), comparison.loss_curves(), comparison.learning_rates()):
        display.plot()


def test_if_every_run_diverged_later_that_is_the_verdict_too(tmp_path):
    task = regression(loss=lambda output, target: Exploding.apply(nn.functional.mse_loss(output, target)))
    comparison = trial(task)
    assert comparison.verdict.headline == "No verdict: every run of every alternative diverged."
    assert all(math.isfinite(standing.loss.estimate) for standing in comparison.table())
    write(comparison, tmp_path)


class Exploding(torch.autograd.Function):
    """A loss whose gradient is not finite."""

    @staticmethod
    def forward(_, loss):
        return loss.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * math.nan
