"""Objectives, whichever way they are written, and what is left when one fails."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from steepest.errors import EvaluationFailed, InvalidArgument
from steepest.estimators import Backprop, FiniteDifference, Pathwise, ScoreFunction, batched, pointwise

X = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
EXACT = torch.tensor([math.cos(0.5), -2.0, 2 * 2.0], dtype=torch.float64)
SOURCE = FiniteDifference(1e-4)


def of_many(x):
    return torch.sin(x[:, 0]) + x[:, 1].square() + x[:, 2].square()


def of_one(x):
    return torch.sin(x[0]) + x[1] ** 2 + x[2] ** 2


def in_numpy(x):
    x = np.asarray(x)
    return np.sin(x[:, 0]) + x[:, 1] ** 2 + x[:, 2] ** 2


def in_python(x):
    a, b, c = (float(each) for each in x)
    return math.sin(a) + b**2 + c**2


def branching(x):
    return of_one(x) if x[0] > 100 or x[1] < 100 else x.sum()


@pytest.mark.parametrize("function", [of_many, of_one, in_numpy, in_python, branching], ids=lambda each: each.__name__)
def test_a_function_of_many_points_or_of_one_is_recognised(function):
    for _ in range(2):  # the second time it is known
        torch.testing.assert_close(SOURCE(function, X).gradient, EXACT, atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_as_many_points_as_dimensions_are_no_puzzle(samples):
    source = ScoreFunction(0.1, samples, antithetic=False, baseline=None)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    # Of 3 points in 3 dimensions, x[0] + x[1] + x[2] of the rows has three numbers, too.
    many, one = (
        source(function, X, generator)
        for function, generator in zip((lambda x: x.sum(-1), lambda x: x[0] + x[1] + x[2]), generators, strict=True)
    )
    torch.testing.assert_close(many.gradient, one.gradient)
    assert many.evaluations == one.evaluations == samples


def test_a_marked_function_is_called_as_it_says():
    shapes = []

    def recorded(x):
        shapes.append(tuple(x.shape))
        return x.sum(-1)

    SOURCE(batched(recorded), X)
    assert shapes == [(6, 3)]
    shapes.clear()
    SOURCE(pointwise(recorded, vectorize=False), X)
    assert shapes == [(3,)] * 6
    shapes.clear()
    SOURCE(pointwise(recorded, chunk=4), X)
    assert shapes == [(3,)] * 2  # torch.vmap, of 4 and of 2 points


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (batched(lambda x: x), r"shape \(6, 3\)"),
        (batched(lambda x: x.sum()), r"shape \(\)"),
        (batched(lambda x: x.sum(-1, keepdim=True)), r"shape \(6, 1\)"),
        (batched(lambda _: None), "NoneType"),
        (batched(lambda x: x.sum(-1).to(torch.complex64)), "complex"),
        (lambda x: x.square(), r"shape \(6, 3\)"),
    ],
)
def test_a_wrong_shape_is_said(function, got):
    with pytest.raises(InvalidArgument, match=rf"one real number per point, as a tensor of shape \(6,\).*{got}"):
        SOURCE(function, X)
    with pytest.raises(InvalidArgument, match="one real number for one point"):
        SOURCE(pointwise(lambda x: x), X)


def test_whole_numbers_and_truth_values_are_values():
    found = ScoreFunction(0.5, 4000)(lambda x: x[:, 0] > 0, torch.zeros(2), torch.Generator().manual_seed(0))
    # P(.5 e > -x) has the slope of the normal density at 0 over sigma.
    torch.testing.assert_close(found.gradient, torch.tensor([1 / math.sqrt(2 * math.pi) / 0.5, 0.0]), atol=0.06, rtol=0)


def test_a_failure_at_evaluation_9999_loses_none_of_the_values_before():
    calls = []

    def simulator(x):
        if len(calls) == 9_998:
            raise OSError("the sensor is gone")
        calls.append(float(x.sum()))
        return calls[-1]

    source, generator = ScoreFunction(0.1, 10_000), torch.Generator().manual_seed(0)
    with pytest.raises(EvaluationFailed, match=r"number 9999 .*OSError: the sensor is gone") as caught:
        source(pointwise(simulator, vectorize=False), X, generator)
    error = caught.value
    assert isinstance(error.__cause__, OSError)
    assert error.values.dtype == torch.float64
    assert error.values.tolist() == calls
    torch.testing.assert_close(error.points.sum(1), error.values)
    assert error.failed.shape == X.shape


def test_of_a_batched_call_that_fails_the_points_before_are_evaluated_alone():
    def fails(x, limit):
        if bool((x[:, 0] < limit).any()):
            raise ValueError
        return x[:, 1]

    # The rows of central differences: one with x + delta for each coordinate, then those with x - delta.
    for limit, before in ((0.6, 0), (0.50005, 1), (0.49995, 3)):
        with pytest.raises(EvaluationFailed, match=f"number {before + 1} .*ValueError") as caught:
            SOURCE(batched(lambda x, limit=limit: fails(x, limit)), X)
        assert len(caught.value.values) == len(caught.value.points) == before


def test_pieces_before_a_failure_are_kept(monkeypatch):
    monkeypatch.setattr("steepest.estimators._finite_difference._AT_ONCE", 6)  # two points at a time

    def fails(x):
        if bool((x[:, 2] > 2.00005).any()):
            raise ValueError
        return x[:, 1]

    torch.testing.assert_close(SOURCE(batched(of_many), X).gradient, EXACT, atol=1e-6, rtol=0)
    with pytest.raises(EvaluationFailed, match="number 1 ") as caught:
        SOURCE(batched(fails), X)
    assert caught.value.values.tolist() == [-1 + 1e-4 * (index == 1) for index in range(2)]


def test_a_model_with_dropout_has_the_same_mask_at_all_points():
    model = nn.Sequential(nn.Linear(3, 50), nn.Dropout(), nn.Linear(50, 1)).double()
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def loss(given):
        return torch.func.functional_call(model, given, (X,)).sum()

    torch.manual_seed(0)
    exact = Backprop()(loss, parameters).gradient
    torch.manual_seed(0)
    found = FiniteDifference(1e-4)(loss, parameters).gradient
    for name, each in exact.items():
        torch.testing.assert_close(found[name], each, atol=1e-5, rtol=0)


def test_a_generator_must_be_on_the_device_of_the_point():
    with pytest.raises(InvalidArgument, match="generator must be"):
        ScoreFunction(0.1, 2)(of_many, X, 3)
    with pytest.raises(InvalidArgument, match="objective must be a function"):
        ScoreFunction(0.1, 2)(3, X, torch.Generator())


def in_place(x):
    x -= 1
    return (x**2).sum(-1)


def in_place_of_one(x):
    x -= 1
    return (x**2).sum()


def in_place_in_python(x):
    x -= 1
    return float((x**2).sum())


def in_place_in_numpy(x):
    x = x.numpy()
    x -= 1
    return (x**2).sum()


@pytest.mark.parametrize("function", [in_place, in_place_of_one, in_place_in_python, in_place_in_numpy])
def test_a_function_may_work_in_place(function):
    x = X.clone()
    for _ in range(2):
        torch.testing.assert_close(SOURCE(function, x).gradient, 2 * (X - 1), atol=1e-6, rtol=0)
    if function in (in_place, in_place_of_one):
        torch.testing.assert_close(Backprop()(function, x).gradient, 2 * (X - 1))
    found = ScoreFunction(0.5, 10)(function, x, torch.Generator().manual_seed(0))
    again = ScoreFunction(0.5, 10)(lambda x: ((x - 1) ** 2).sum(-1), x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.gradient, again.gradient)
    assert torch.equal(x, X)


def test_a_function_in_one_dimension_is_recognised_whatever_was_called_before():
    def first(x):
        return x[0] ** 2

    def last(x):
        return x.square().sum(-1)[0]

    generator = torch.Generator().manual_seed(0)
    for function, x in ((first, torch.ones(1)), (last, torch.ones(1, 3)), (lambda x: x.norm(dim=0), torch.ones(1))):
        shape = x.shape
        assert Backprop()(function, x).gradient.shape == shape
        for samples in (50, 3, 1):
            source = ScoreFunction(0.1, samples, antithetic=False, baseline=None)
            assert source(function, x, generator).evaluations == samples


def test_a_value_that_is_none_loses_none_of_the_values_before():
    calls = []

    def gives_up(x):
        calls.append(float(x.sum()))
        return None if len(calls) == 40 else calls[-1]

    source, generator = ScoreFunction(0.1, 50), torch.Generator().manual_seed(0)
    with pytest.raises(EvaluationFailed, match=r"number 40 .*one real number for one point") as caught:
        source(pointwise(gives_up, vectorize=False), X, generator)
    assert caught.value.values.tolist() == calls[:-1]


def test_values_are_subtracted_in_enough_bits():
    slope = ScoreFunction(1.0, 2)(lambda x: (6e4 * x[:, 0].sign()).half(), torch.zeros(1), torch.Generator())
    assert slope.gradient.isfinite().all()
    whole = FiniteDifference(1.0)(lambda x: 10**9 + x[:, 0].long(), torch.tensor([100.0]))
    assert whole.gradient.tolist() == [1.0]


def test_a_step_below_the_spacing_of_numbers_is_refused():
    with pytest.raises(InvalidArgument, match=r"delta must be larger than the spacing of numbers at x \(got 0.001"):
        FiniteDifference(1e-3)(of_many, torch.tensor([1e8, 1.0, 1.0]))
    mixed = {"half": torch.ones(3, dtype=torch.float16), "single": torch.ones(3)}

    def total(given):
        return sum(each.float().sum() for each in given.values())

    found = FiniteDifference(1.3e-3)(total, mixed).gradient
    for each in found.values():  # the step of the half-precision ones is rounded to .00098
        torch.testing.assert_close(each.float(), torch.ones(3), atol=1e-3, rtol=0)


def test_inference_mode_is_no_hindrance():
    laplace = torch.distributions.Laplace(0.0, 1.0)
    sources = Backprop(), Pathwise(0.1, 4), ScoreFunction(0.1, 4, distribution=laplace), FiniteDifference(1e-3)
    with torch.inference_mode():
        x = X.clone()
        for source in sources:
            found = source(of_many, x, torch.Generator().manual_seed(0)).gradient
            assert found.isfinite().all()
