"""Many independent estimates in one call, by `torch.vmap`."""

import pytest
import torch

from steepest.estimators import FiniteDifference, ScoreFunction, pointwise

POINT = torch.tensor([0.3, -0.7])


def objective(x):
    return x.square().sum(-1) + x[..., 0] * torch.sin(x[..., 1])


@pytest.mark.parametrize(
    "source",
    [
        ScoreFunction(0.3, 20),
        ScoreFunction(0.3, 20, antithetic=False, baseline=None),
        ScoreFunction(0.3, 20, antithetic=False),
        ScoreFunction(0.3, 20, baseline="control-variate"),
        FiniteDifference(0.1, 5, sigma=0.3),
        FiniteDifference(0.1, 5, sigma=0.3, central=False),
        FiniteDifference(0.1, 5, directions="random"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("f", [objective, pointwise(objective)], ids=["batched", "pointwise"])
def test_estimates_that_are_mapped_are_those_of_single_calls_in_mean_and_spread(source, f):
    def estimate(x, generator):
        return source(f, x, generator).gradient

    generator = torch.Generator().manual_seed(0)
    mapped = torch.vmap(lambda x: estimate(x, generator), randomness="different")(POINT.expand(4000, 2))
    single = torch.stack([estimate(POINT, generator) for _ in range(400)])
    error = (mapped.var(0) / len(mapped) + single.var(0) / len(single)).sqrt()
    assert ((mapped.mean(0) - single.mean(0)).abs() < 4 * error).all()
    assert (mapped.std(0) / single.std(0) - 1).abs().max() < 0.2
    assert len(mapped.unique(dim=0)) == len(mapped)


def test_differences_without_noise_are_the_same_bits_when_mapped():
    points = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    source = FiniteDifference(0.1)
    mapped = torch.vmap(lambda x: source(objective, x).gradient)(points)
    assert torch.equal(mapped, torch.stack([source(objective, x).gradient for x in points]))


def test_values_that_are_not_finite_count_as_the_worst_when_mapped():
    def broken(x):
        return torch.where(x[..., 0] > 0.3, torch.nan, x.sum(-1))

    source, x = FiniteDifference(0.1, worst="smallest"), torch.tensor([[0.25, 0.0], [0.0, 0.0]])
    mapped = torch.vmap(lambda each: source(broken, each).gradient)(x)
    assert torch.equal(mapped, torch.stack([source(broken, each).gradient for each in x]))
