"""Arguments outside of their type or range, and models, inputs and outputs without data."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.zoo import Net, mlp
from torch import nn

from steepest.errors import InvalidArgument
from steepest.linearize import Linearization


def net():
    return mlp(nn.Tanh).double()


def points(n=6):
    return torch.linspace(-1, 1, 3 * n, dtype=torch.float64).view(n, 3)


def on_meta(part):
    """A network of which one part has no data."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double().eval()
    match part:
        case "0":
            return model.to("meta")
        case "2.weight":
            model[2] = nn.Linear(4, 2, device="meta")
        case "0.weight":
            model[0] = nn.Linear(3, 4, device="meta").requires_grad_(False)
        case "1.running_mean":
            model[1].running_mean = torch.zeros(4, device="meta")
        case _:
            model.register_buffer("scale", torch.ones(2, device="meta"))
    return model


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("part", ["0", "2.weight", "0.weight", "1.running_mean", "scale"])
def test_a_model_without_data_is_refused_in_whole_and_in_part(part, check):
    with pytest.raises(InvalidArgument, match=rf"must have data in all its parameters and buffers \(got '{part}"):
        Linearization(on_meta(part), points(), check=check)


def test_inputs_and_outputs_without_data_are_refused():
    with pytest.raises(InvalidArgument, match=r"x must be a dense tensor.*on device meta"):
        Linearization(net(), points().to("meta"))
    with pytest.raises(InvalidArgument, match=r"x2 must be a dense tensor.*on device meta"):
        Linearization(net(), points()).kernel(None, points().to("meta"))
    for function in (lambda y: y.to("meta"), lambda y: y.to_sparse()):
        with pytest.raises(InvalidArgument, match="an output must be a dense tensor with data"):
            Linearization(Net(lambda s, x, function=function: function(s.a(x)), a=net()), points())


def test_a_function_of_the_outputs_that_fails_is_refused():
    with pytest.raises(
        InvalidArgument, match=r"outputs must be a function of what the model returns \(got 'IndexError"
    ):
        Linearization(net(), points(), lambda y: y[:, 7])


@pytest.mark.parametrize("outputs", ["0", [[0]], 1.0, 1j, {}, torch.zeros(2, 2), object()])
def test_outputs_that_are_no_numbers_are_refused(outputs):
    with pytest.raises(InvalidArgument, match="outputs must be whole numbers from 0 to 1"):
        Linearization(net(), points(), outputs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"check": "yes"}, "check must be True or False"),
        ({"check": None}, "check must be True or False"),
    ],
)
def test_options_outside_of_their_range_are_refused(options, says):
    with pytest.raises(InvalidArgument, match=says):
        Linearization(net(), points(), **options)


def test_arguments_of_another_type_are_refused():
    lin = Linearization(net(), points())
    for use, says in (
        (lambda: lin.kernel(trace="x"), "trace must be True or False"),
        (lambda: lin.kernel(trace=None), "trace must be True or False"),
        (lambda: lin.features(parameters=3), "parameters must be a parameter's name"),
        (lambda: lin.features(parameters=[["0.weight"]]), "parameters must be a parameter's name"),
        (lambda: lin.features(parameters=torch.tensor(0)), "parameters must be a parameter's name"),
        (lambda: lin.features(out=3), "out must be a contiguous tensor"),
        (lambda: lin.labels.columns(None), "parameter must be a parameter's name"),
        (lambda: lin.svd(3).first(4), "k must be a whole number from 1 to 3"),
        (lambda: lin.svd(3).first(2.0), "k must be a whole number from 1 to 3"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            use()
