"""Whether the estimator that is chosen is the best one, within the budget, and what is said where that is unknown."""

import pytest
import torch
from tests.estimators.planted.objectives import OBJECTIVES

from steepest._objectives import multimodal, quantize
from steepest.errors import InvalidArgument
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
    reference = flat(audit(ScoreFunction(sigma, 50), objective, x, budget=200_000, seconds=5.0).gradient)
    generator = torch.Generator().manual_seed(5)
    errors = [
        (torch.stack([flat(each(objective, x, generator).gradient) for _ in range(200)]) - reference).square().sum(1)
        for each in choice.candidates
    ]
    means = [float(each.mean()) ** 0.5 for each in errors]
    assert means[0] <= 1.5 * min(means)


def test_a_jump_that_one_point_in_seventy_sees_is_found():
    """Of 32 points around x all have the value -2, of 100,000 1.4% the value -1."""
    choice = choose(quantize(multimodal), POINT, 20_000, sigma=0.05)
    assert choice.candidates
    assert "constant" not in choice.reason


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


@pytest.mark.parametrize("budget", [16, 40, 100, 300])
@pytest.mark.parametrize("f", [lambda x: torch.floor(3 * x.square().sum(-1)), multimodal], ids=["steps", "smooth"])
def test_too_small_a_budget_to_look_for_jumps_gives_a_score_function_and_says_what_is_unknown(budget, f):
    choice = choose(f, torch.full((2,), 0.6), budget)
    assert isinstance(choice.estimator, ScoreFunction)
    assert "unknown" in choice.reason
    assert "No jumps" not in choice.reason
    assert not choice.decided


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_a_constant_objective_is_said_to_be_constant(sigma):
    choice = choose(lambda x: x.sum(-1) * 0 + 1, POINT, 5000, sigma=sigma)
    assert "constant" in choice.reason
    assert "jumps" not in choice.reason
    assert not choice.decided


def test_a_noisy_objective_is_said_to_be_noisy_and_gets_a_scale_that_exceeds_the_noise():
    generator = torch.Generator().manual_seed(0)

    def noisy(x):
        return x.square().sum(-1) + 0.1 * torch.randn(len(x), generator=generator)

    choice = choose(noisy, torch.full((2,), 0.6), 20_000)
    assert isinstance(choice.estimator, ScoreFunction)
    assert choice.sigma >= 0.3
    assert "noisy" in choice.reason


@pytest.mark.parametrize("budget", [1, 10, 30, 1000])
def test_one_of_the_candidates_is_returned_whatever_the_budget(budget):
    own = [Pathwise(0.3, 10), ScoreFunction(0.3, 50)]
    assert choose(multimodal, POINT, budget, candidates=own).estimator in own


def test_a_candidate_of_ones_own_cannot_exceed_the_budget():
    count = 0

    def counted(x):
        nonlocal count
        count += len(x)
        return multimodal(x)

    def greedy(objective, x, generator=None):
        for _ in range(100):
            found = ScoreFunction(0.3, 50)(objective, x, generator)
        return found

    choice = choose(counted, POINT, 1000, candidates=[greedy])
    assert count == choice.evaluations <= 1000
    assert choice.estimator is greedy
    assert "too small" in choice.reason
    with pytest.raises(InvalidArgument, match="must return an Estimate"):
        choose(multimodal, POINT, 1000, candidates=[lambda *_: None])
