"""Gradient sources by name, and the reference objective."""

import pytest
import torch

from steepest._objectives import Multimodal, multimodal, quantize
from steepest.errors import ImportFailed, InvalidArgument, UnknownName
from steepest.estimators import SOURCES, FiniteDifference, Pathwise, ScoreFunction, resolve_source


def mine(objective, x, generator=None):
    """A source of the user's own."""
    return ScoreFunction(0.1, 2)(objective, x, generator)


def test_a_name_with_options_keeps_the_other_defaults():
    found = resolve_source("score-function:sigma=0.2, samples=10, baseline=control-variate")
    assert isinstance(found, ScoreFunction)
    assert (found.sigma, found.samples, found.baseline, found.antithetic) == (0.2, 10, "control-variate", True)
    assert resolve_source("score-function:baseline=None,antithetic=False").baseline is None
    random = resolve_source("finite-difference:delta=0.5")
    assert isinstance(random, FiniteDifference)
    assert (random.delta, random.directions) == (0.5, "random")
    assert resolve_source("pathwise") is SOURCES["pathwise"]


def test_a_source_of_ones_own_is_found_by_its_place():
    assert resolve_source("tests.estimators.test_named:mine") is mine
    assert resolve_source(mine) is mine
    assert isinstance(resolve_source("steepest.estimators:Backprop"), type(SOURCES["backprop"]))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("scorefunction", UnknownName, r"no such gradient source .*Did you mean score-function\?"),
        (
            "score-function:sigma",
            InvalidArgument,
            "must be NAME=VALUE .*Known: sigma, samples, antithetic, baseline, worst",
        ),
        ("score-function:sigm=0.3", UnknownName, r"no such option of score-function .*Did you mean sigma\?"),
        ("score-function:distribution=Laplace", InvalidArgument, r"a distribution is not .*FILE\.py:ATTR"),
        ("score-function:sigma=-1", InvalidArgument, "sigma must be"),
        ("score-function:sigma=big", InvalidArgument, "sigma must be"),
        ("backprop:sigma=1", InvalidArgument, "It has none"),
        ("nowhere:source", ImportFailed, "nowhere"),
        ("steepest.estimators:ScoreFunction", InvalidArgument, "without arguments"),
        (3, InvalidArgument, "gradient must be a gradient source"),
        (Pathwise, InvalidArgument, "gradient must be a gradient source"),
    ],
)
def test_what_is_no_source_is_refused(given, kind, message):
    with pytest.raises(kind, match=message):
        resolve_source(given)


def test_the_reference_objective_has_its_published_values():
    best = torch.tensor(multimodal.maximizer, dtype=torch.float64)
    assert float(multimodal(best)) == pytest.approx(multimodal.maximum, abs=1e-12)
    assert float(multimodal.gradient(best).norm()) < 1e-6
    side = torch.linspace(-1, 3, 401, dtype=torch.float64)
    grid = multimodal(torch.stack(torch.meshgrid(side, side, indexing="ij"), -1))
    assert grid.max() <= multimodal.maximum
    inner, around = grid[1:-1, 1:-1], torch.nn.functional.max_pool2d(grid[None, None], 3, 1)[0, 0]
    assert int((inner == around).sum()) == 17


def test_its_gradient_and_its_smoothing_are_exact():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((50, 2), generator=generator, dtype=torch.float64) * 4 - 1
    for f in (multimodal, Multimodal(0.3)):
        given = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(f(given).sum(), given)
        torch.testing.assert_close(f.gradient(x), expected)
    # By Gauss-Hermite quadrature.
    import numpy as np

    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(40))
    steps = torch.stack(torch.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    share = torch.outer(weights, weights).reshape(-1) / weights.sum() ** 2
    expected = multimodal(x[:, None] + 0.3 * steps) @ share
    torch.testing.assert_close(multimodal.smoothed(0.3)(x), expected)
    assert multimodal.smoothed(0.3).smoothed(0.4).sigma == pytest.approx(0.5)


def test_the_quantised_objective_has_six_levels():
    side = torch.linspace(-1, 3, 801)
    levels = quantize(multimodal)(torch.stack(torch.meshgrid(side, side, indexing="ij"), -1))
    assert levels.unique().tolist() == [-4, -3, -2, -1, 0, 1]
    assert float((levels == 1).float().mean()) == pytest.approx(0.0033, abs=1e-4)
    with pytest.raises(InvalidArgument, match="width must be"):
        quantize(multimodal, 0)
    with pytest.raises(InvalidArgument, match="points of shape"):
        multimodal(torch.ones(3))
