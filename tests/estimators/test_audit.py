"""What an audit says of right estimators, and of what it cannot know."""

import math

import pytest
import torch
from tests.estimators.planted.objectives import OBJECTIVES

from steepest._objectives import multimodal, quantize
from steepest.errors import EvaluationFailed, InvalidArgument
from steepest.estimators import (
    FAULTS,
    Audit,
    Backprop,
    Estimate,
    FiniteDifference,
    Pathwise,
    ScoreFunction,
    audit,
    pointwise,
)

POINT = torch.tensor([-0.3, 0.5])
LAPLACE = torch.distributions.Laplace(0.0, 1.0)


def slope(x):
    """A linear function with a quadratic part."""
    return (3 * x + 0.5 * x.square()).sum(-1)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (ScoreFunction(0.3, 200), "multimodal"),
        (ScoreFunction(0.3, 200, antithetic=False), "quantized"),
        (ScoreFunction(1.0, 200, False, None), "product"),
        (ScoreFunction(0.3, 200, distribution=LAPLACE), "product"),
        (Pathwise(0.1, 20), "network"),
        (Pathwise(0.2, 100), "absolute"),
        (Pathwise(0.2, 100, antithetic=True), "rosenbrock"),
        (Pathwise(0.3, 100, distribution=torch.distributions.Uniform(-1.0, 1.0)), "product"),
        (FiniteDifference(samples=50, sigma=0.3), "multimodal"),
        (FiniteDifference(samples=500, directions="random"), "product"),
        (FiniteDifference(), "rosenbrock"),
        (Backprop(), "quadratic"),
        (Backprop(), "network"),
    ],
    ids=str,
)
def test_right_estimators_pass_with_a_factor_of_one(estimator, name):
    found = audit(estimator, *OBJECTIVES[name])
    assert (found.fault, found.passed, found.identically_zero) == (None, True, False), str(found)
    assert abs(found.factor - 1) < 0.02
    assert found.factor_error < 0.01


def test_the_bias_and_its_error_have_the_structure_of_the_point():
    objective, weights = OBJECTIVES["network"]
    found = audit(Backprop(), objective, weights)
    for each in (found.bias, found.z, found.gradient, found.standard_error):
        assert {name: tensor.shape for name, tensor in each.items()} == {n: w.shape for n, w in weights.items()}


def test_the_same_seed_gives_the_same_audit():
    def once(seed):
        return audit(ScoreFunction(0.3, 500), slope, POINT, torch.Generator().manual_seed(seed))

    assert once(0).factor == once(0).factor != once(1).factor
    assert audit(ScoreFunction(0.3, 500), slope, POINT).factor == audit(ScoreFunction(0.3, 500), slope, POINT).factor


def test_an_audit_counts_all_evaluations_of_the_objective():
    count = 0

    def counted(x):
        nonlocal count
        count += len(x)
        return slope(x)

    found = audit(ScoreFunction(0.3, 2000), counted, POINT)
    # The function is tried on single rows while it is not known how it wants to be called.
    assert count == pytest.approx(found.evaluations, rel=0.01)


def test_the_suggested_samples_give_the_accuracy():
    found = audit(ScoreFunction(0.3, 50), multimodal, POINT)
    samples = found.samples_for(0.2)
    assert found.suggested_samples == pytest.approx(4 * samples, rel=0.01)
    source = ScoreFunction(0.3, samples + samples % 2)
    generator = torch.Generator().manual_seed(3)
    errors = torch.stack([source(multimodal, POINT, generator).gradient for _ in range(400)]) - found.gradient
    spread = float(errors.square().sum(1).mean().sqrt())
    assert spread == pytest.approx(0.2 * float(found.gradient.norm()), rel=0.15)


def test_too_small_a_budget_is_undecided_and_says_what_it_takes():
    found = audit(ScoreFunction(0.05, 10, False, None), multimodal, POINT, budget=20_000)
    assert (found.fault, found.passed) == ("undecided", False)
    assert "evaluations" in found.reason
    assert found.evaluations <= 2 * 20_000


@pytest.mark.parametrize("estimator", [Backprop(), Pathwise(0.3, 20)], ids=str)
def test_a_quantised_objective_has_a_gradient_that_is_identically_zero(estimator):
    found = audit(estimator, quantize(multimodal), POINT)
    assert (found.fault, found.identically_zero) == ("identically zero", True)
    assert found.suggested_samples is None  # no number of samples helps
    assert "piecewise constant" in found.reason
    assert "ScoreFunction(" in found.reason


def test_an_objective_without_a_graph_is_identically_zero_for_backpropagation():
    found = audit(Backprop(), lambda x: torch.from_numpy(x.detach().numpy() ** 2).sum(-1), POINT)
    assert (found.fault, found.identically_zero) == ("identically zero", True)
    assert "autograd" in found.reason


def test_a_gradient_that_is_zero_at_an_optimum_is_no_fault():
    for estimator in (Backprop(), Pathwise(0.2, 50), ScoreFunction(0.2, 100)):
        found = audit(estimator, lambda x: x.square().sum(-1), torch.zeros(2))
        assert (found.fault, found.identically_zero) == (None, False), str(found)
        assert "close to zero" in found.reason


def test_a_constant_objective_is_undecided():
    found = audit(ScoreFunction(0.2, 20), lambda x: torch.ones(len(x)), POINT)
    assert found.fault == "undecided"
    assert "the same value" in found.reason


def test_an_estimator_of_ones_own_says_its_scale_by_an_argument():
    def own(objective, x, generator=None):
        noise = torch.randn(200, *x.shape, generator=generator)
        values = objective(x + 0.3 * noise)
        centred = (values - values.mean()) * 200 / 199
        terms = centred[:, None] * noise / 0.3
        return Estimate(values.mean(), terms.mean(0), terms.std(0) / math.sqrt(200), 200)

    assert audit(own, multimodal, POINT, sigma=0.3).fault is None
    assert audit(own, multimodal, POINT).fault is not None


def test_an_objective_of_one_point_is_audited_as_it_is():
    found = audit(ScoreFunction(0.3, 50), pointwise(lambda x: (3 * x + x.square()).sum()), POINT)
    assert found.fault is None


def test_a_fault_of_the_objective_is_not_one_of_the_estimator():
    def fails(x):
        if x[:, 0].max() > 0.1:
            raise ValueError("too far")
        return slope(x)

    with pytest.raises(EvaluationFailed, match="too far"):
        audit(ScoreFunction(0.3, 50), fails, POINT)
    with pytest.raises(InvalidArgument, match="finite value"):
        audit(Backprop(), lambda x: x.sum(-1) * torch.nan, POINT)


def test_an_audit_is_shown_in_a_sentence_and_a_figure():
    found = audit(ScoreFunction(0.3, 50), slope, POINT)
    assert isinstance(found, Audit)
    assert str(found).startswith("right")
    figure = found.plot()
    assert list(figure.data[1].x) == pytest.approx(found.gradient.tolist())
    assert None not in FAULTS
