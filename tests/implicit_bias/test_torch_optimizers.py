"""Live torch optimizers that their hooks or their format keep from a limit."""

from __future__ import annotations

import functools

import pytest
import torch

from steepest.errors import InvalidArgument
from steepest.implicit_bias import (
    predict,
)
from steepest.norms import L2, Ellipsoid
from steepest.optim import SteepestDescent

F64 = torch.float64
ONE = [[1.0, 0.5, 0.2]]


def live(make, dtype=F64):
    theta = torch.nn.Parameter(torch.zeros(3, dtype=dtype))
    return theta, make([theta])


@pytest.mark.parametrize("kind", ["hook", "bfloat16"])
def test_a_live_optimizer_is_not_certain_to_reach_what_its_hooks_or_its_format_do_not_let_it(kind):
    theta, optimizer = live(functools.partial(torch.optim.SGD, lr=0.1), torch.bfloat16 if kind == "bfloat16" else F64)
    if kind == "hook":
        optimizer.register_step_post_hook(lambda *_: theta.data.clamp_(-0.1, 0.1))
    prediction, a = predict(optimizer, ONE, [1.0]), torch.tensor(ONE[0], dtype=F64)
    for _ in range(600):
        theta.grad = ((a @ theta.detach().double() - 1) * a).to(theta.dtype)
        optimizer.step()
    if prediction.determined:
        torch.testing.assert_close(theta.detach().double(), prediction.point, rtol=1e-6, atol=1e-6)


def three_numbers(momentum=0.9, of=torch.optim.SGD):
    """An optimizer of three numbers, after a step whose gradient is not in the row space of A."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = of([weight], lr=0.05, momentum=momentum)
    return weight, optimizer


def stepped(weight, optimizer):
    optimizer.zero_grad()
    ((weight.sum() - 2) ** 2).backward()
    optimizer.step()


@pytest.mark.parametrize("of", [torch.optim.SGD, functools.partial(SteepestDescent, norm=L2())], ids=["torch", "own"])
def test_momentum_under_way_and_a_scheduler_determine_nothing(of):
    A, b = [[1.0, 0.1, 0.01]], [1.0]
    weight, optimizer = three_numbers(of=of)
    torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    assert predict(optimizer, A, b).determined, "no momentum is under way yet"
    stepped(weight, optimizer)
    prediction = predict(optimizer, A, b)
    assert not prediction.determined
    assert "scheduler" in prediction.reason
    weight, optimizer = three_numbers(of=of)
    stepped(weight, optimizer)
    assert predict(optimizer, A, b).determined


@pytest.mark.parametrize("of", [torch.optim.SGD, functools.partial(SteepestDescent, norm=L2())], ids=["torch", "own"])
def test_a_scheduler_over_several_groups_determines_nothing(of):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))]} for _ in range(3)]
    optimizer = of(groups, lr=0.05)
    assert predict(optimizer, [[1.0, 0.1, 0.01]], [1.0]).determined
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda _: 1.0, lambda t: 1 / (t + 1), lambda _: 1.0])
    assert not predict(optimizer, [[1.0, 0.1, 0.01]], [1.0]).determined


@pytest.mark.parametrize("of", [torch.optim.SGD, functools.partial(SteepestDescent, norm=L2())], ids=["torch", "own"])
@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_gradients_determine_nothing(of, register):
    weight, optimizer = three_numbers(0.0, of)
    getattr(weight, register)(lambda _: None)
    prediction = predict(optimizer, [[1.0, 0.1, 0.01]], [1.0])
    assert not prediction.determined
    assert "hooks" in prediction.reason


def test_a_norm_that_does_not_fit_a_live_parameter_is_refused():
    weight = torch.nn.Parameter(torch.zeros(3, 1, dtype=torch.float64))
    with pytest.raises(InvalidArgument, match="the diagonal must fit the tensor"):
        predict(SteepestDescent([weight], Ellipsoid(torch.ones(3)), lr=0.05), [[1.0, 0.1, 0.01]], [1.0])
