"""Whether the estimator that is chosen is the best one, within the budget, and what is said where that is unknown."""

import pytest
import torch
from tests.estimators.planted.objectives import OBJECTIVES

from steepest._objectives import multimodal, quantize
from steepest.estimators import (
    Backprop,
    FiniteDifference,
    Pathwise,
    ScoreFunction,
    audit,
    choose,
    pointwise,
)
from steepest.estimators._auditing.repetitions import flat

POINT = torch.tensor([-0.3, 0.5])
SMOOTHED = [(name, sigma) for name in OBJECTIVES for sigma in (0.05, 0.3, 1.0)]


@pytest.mark.parametrize(
    ("name", "sigma"),
    [
        pytest.param(name, sigma, marks=[pytest.mark.slow] * (sigma != 0.3 or name == "network"))
        for name, sigma in SMOOTHED
    ],
)
def test_the_choice_has_at_most_one_and_a_half_times_the_error_of_the_best(name, sigma):
    objective, x = OBJECTIVES[name]
    choice = choose(objective, x, 20_000, sigma=sigma)
    assert choice.evaluations <= 20_000
    assert choice.estimator is choice.candidates[0]
    reference = flat(audit(ScoreFunction(sigma, 50), objective, x, budget=200_000, seconds=0.1).gradient)
    generator = torch.Generator().manual_seed(5)
    errors = [
        (torch.stack([flat(each(objective, x, generator).gradient) for _ in range(200)]) - reference).square().sum(1)
        for each in choice.candidates
    ]
    means = [float(each.mean()) ** 0.5 for each in errors]
    assert means[0] <= 1.5 * min(means)


def test_where_there_are_jumps_neither_backpropagation_nor_differences_are_candidates():
    choice = choose(quantize(multimodal), POINT, 20_000, sigma=0.3)
    assert {type(each) for each in choice.candidates} == {ScoreFunction}
    assert "jumps" in choice.reason
    found = choose(quantize(multimodal), POINT, 20_000)
    assert isinstance(found.estimator, ScoreFunction)
    assert found.sigma > 0.01
    # At (1, 1) this one jumps: most pairs of points differ, however near they are, and have the same two values.
    assert choose(lambda x: torch.floor(3 * x.square().sum(-1)), torch.ones(2), 20_000).sigma >= 0.1


def test_without_a_scale_a_smooth_objective_is_differentiated_itself():
    assert isinstance(choose(multimodal, POINT, 1000).estimator, Backprop)
    no_graph = pointwise(lambda x: torch.tensor(float(x[0] ** 2 + 3 * x[1])), vectorize=False)
    assert isinstance(choose(no_graph, POINT, 1000).estimator, FiniteDifference)
    wide = choose(lambda x: torch.from_numpy(x.detach().numpy() ** 2).sum(-1), torch.ones(200), 4000).estimator
    assert (wide.directions, wide.samples) == ("random", 25)


@pytest.mark.parametrize("budget", [1, 20, 100, 1000, 3000])
@pytest.mark.parametrize("sigma", [None, 0.3])
@pytest.mark.parametrize("one", [False, True])
def test_the_budget_is_never_exceeded_and_too_small_a_one_is_said_to_be(budget, sigma, one):
    count = 0

    def counted(x):
        nonlocal count
        count += 1 if one else len(x)
        return quantize(multimodal)(x)

    objective = pointwise(counted, vectorize=False) if one else counted
    choice = choose(objective, POINT, budget, sigma=sigma)
    assert count <= budget
    assert count <= choice.evaluations <= budget
    assert choice.decided or "budget" in choice.reason
    if budget < 1000:
        assert not choice.decided


def test_candidates_of_ones_own_are_compared_and_a_biased_one_loses():
    own = [Pathwise(0.3, 50), ScoreFunction(0.3, 50), FiniteDifference(1.0, samples=12, sigma=0.3)]
    choice = choose(multimodal, POINT, 20_000, sigma=0.3, candidates=own)
    assert choice.estimator is own[0]
    assert "Biased" in choice.reason
    assert "Pathwise" in str(choice)


def test_the_same_seed_gives_the_same_choice():
    def once():
        return choose(multimodal, POINT, 4000, torch.Generator().manual_seed(2), sigma=0.3)

    assert once().errors == once().errors
