"""The score function against formulas written out, and its baselines."""

import itertools

import pytest
import torch
from torch import distributions

from steepest._objectives import multimodal
from steepest.errors import InvalidArgument
from steepest.estimators import FiniteDifference, Pathwise, ScoreFunction

X = torch.tensor([-0.3, 0.5], dtype=torch.float64)
SIGMA = 0.3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_single_samples_follow_the_formula():
    noise = torch.randn((9, 2), generator=seeded(), dtype=torch.float64)
    values = multimodal(X + SIGMA * noise)
    for baseline in (None, "leave-one-out"):
        expected = torch.zeros(2, dtype=torch.float64)
        for i in range(9):
            others = [values[j] for j in range(9) if j != i]
            b = 0 if baseline is None else sum(others) / 8
            expected += (values[i] - b) * noise[i] / SIGMA / 9
        found = ScoreFunction(SIGMA, 9, antithetic=False, baseline=baseline)(multimodal, X, seeded())
        torch.testing.assert_close(found.gradient, expected)
        torch.testing.assert_close(found.value, values.mean())


def test_pairs_follow_the_formula():
    noise = torch.randn((4, 2), generator=seeded(), dtype=torch.float64)
    terms = [(multimodal(X + SIGMA * e) - multimodal(X - SIGMA * e)) / (2 * SIGMA) * e for e in noise]
    found = ScoreFunction(SIGMA, 8)(multimodal, X, seeded())
    torch.testing.assert_close(found.gradient, sum(terms) / 4)
    torch.testing.assert_close(found.standard_error, torch.stack(terms).std(0) / 2)  # of 4 pairs, not of 8 samples


@pytest.mark.parametrize("antithetic", [True, False])
def test_a_control_variate_comes_from_samples_to_which_it_is_not_applied(antithetic):
    """The terms of one half do not change the model by which they are corrected."""
    samples = 16 if antithetic else 8
    noise = torch.randn((8, 2), generator=seeded(), dtype=torch.float64)
    if antithetic:
        f = (multimodal(X + SIGMA * noise) - multimodal(X - SIGMA * noise)) / 2
    else:
        f = multimodal(X + SIGMA * noise)
    terms = []
    for own, other in ((range(4), range(4, 8)), (range(4, 8), range(4))):
        base = 0 if antithetic else sum(f[j] for j in other) / 4
        known = torch.stack([(f[j] - base) * noise[j] for j in other])
        slope = known.mean(0)
        slope = slope * max(0, 1 - known.var(0).sum() / 4 / slope.square().sum())
        terms += [(f[i] - base - slope @ noise[i]) * noise[i] + slope for i in own]
    found = ScoreFunction(SIGMA, samples, antithetic, "control-variate")(multimodal, X, seeded())
    torch.testing.assert_close(found.gradient, sum(terms) / 8 / SIGMA)


def test_each_baseline_lowers_the_variance_where_it_can():
    def tilted(x):
        return 5 + x.sum(-1)

    generator = seeded()
    errors = [
        ScoreFunction(0.5, 2000, antithetic=False, baseline=baseline)(tilted, X, generator).standard_error.max()
        for baseline in (None, "leave-one-out", "control-variate")
    ]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(errors))


@pytest.mark.parametrize("antithetic", [True, False])
def test_the_standard_error_of_a_control_variate_knows_what_its_halves_share(antithetic):
    """For a linear f, all of the error is shared: that of the halves alone would be 1.4 times too small."""
    source, generator = ScoreFunction(0.5, 40, antithetic, "control-variate"), seeded()
    estimates = [source(lambda x: 5 + x.sum(-1), X, generator) for _ in range(600)]
    spread = torch.stack([each.gradient for each in estimates]).std(0)
    claimed = torch.stack([each.standard_error for each in estimates]).square().mean(0).sqrt()
    torch.testing.assert_close(claimed, spread, rtol=0.1, atol=0)


SYMMETRIC = {
    "Normal": distributions.Normal(0.0, 2.0),
    "shifted Normal": distributions.Normal(0.5, 1.0),
    "Laplace": distributions.Laplace(0.0, 1.0),
    "StudentT": distributions.StudentT(5.0),
    "logistic": distributions.TransformedDistribution(
        distributions.Uniform(0.0, 1.0), [distributions.SigmoidTransform().inv, distributions.AffineTransform(0.0, 1.0)]
    ),
    "of the shape of x": distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])),
    "independent": distributions.Independent(distributions.Normal(torch.zeros(2), torch.ones(2)), 1),
}


@pytest.mark.parametrize("name", SYMMETRIC)
@pytest.mark.parametrize("antithetic", [True, False])
def test_any_smooth_distribution_gives_the_gradient_that_pathwise_gives(name, antithetic):
    options = {"distribution": SYMMETRIC[name], "antithetic": antithetic}
    reference = Pathwise(SIGMA, 40_000, **options)(multimodal, X, seeded(1))
    for baseline in ("leave-one-out", "control-variate"):
        found = ScoreFunction(SIGMA, 40_000, baseline=baseline, **options)(multimodal, X, seeded(2))
        error = (found.standard_error.square() + reference.standard_error.square()).sqrt()
        assert ((found.gradient - reference.gradient).abs() < 4.5 * error).all()


def test_a_distribution_without_symmetry_has_no_pairs():
    gumbel = distributions.Gumbel(0.0, 1.0)
    with pytest.raises(InvalidArgument, match=r"symmetric for antithetic pairs .*antithetic=False"):
        ScoreFunction(SIGMA, 10, distribution=gumbel)
    with pytest.raises(InvalidArgument, match="symmetric for antithetic pairs"):
        Pathwise(SIGMA, 10, antithetic=True, distribution=distributions.Exponential(1.0))
    found = ScoreFunction(SIGMA, 40_000, antithetic=False, distribution=gumbel)(multimodal, X, seeded(2))
    reference = Pathwise(SIGMA, 40_000, distribution=gumbel)(multimodal, X, seeded(1))
    error = (found.standard_error.square() + reference.standard_error.square()).sqrt()
    assert ((found.gradient - reference.gradient).abs() < 4.5 * error).all()


@pytest.mark.parametrize(
    "distribution",
    [
        distributions.Uniform(-1.0, 1.0),
        distributions.Exponential(1.0),
        distributions.Bernoulli(0.5),
        distributions.Poisson(3.0),
        distributions.Beta(2.0, 2.0),
        distributions.VonMises(0.0, 1.0),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_density_with_a_border_or_without_a_derivative_is_refused(distribution):
    with pytest.raises(InvalidArgument, match=r"positive and differentiable on all real numbers.*or Pathwise"):
        ScoreFunction(SIGMA, 9, antithetic=False, distribution=distribution)
    # The other sources need no density.
    if not isinstance(distribution, distributions.VonMises):  # float64 parameters only
        assert Pathwise(SIGMA, 4, distribution=distribution)(multimodal, X, seeded()).gradient.isfinite().all()
    assert FiniteDifference(0.1, 2, SIGMA, distribution=distribution)(multimodal, X, seeded()).evaluations == 8


def test_a_distribution_of_another_shape_is_refused():
    wide = distributions.Normal(torch.zeros(3), torch.ones(3))
    with pytest.raises(InvalidArgument, match=r"have the shape of x \(got .*3.*x has shape \(2,\)"):
        ScoreFunction(SIGMA, 4, distribution=wide)(multimodal, X, seeded())
    with pytest.raises(InvalidArgument, match="distribution must be"):
        ScoreFunction(SIGMA, 4, distribution="normal")
