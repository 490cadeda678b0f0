"""Half and mixed precision, and numbers of sizes far apart."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.linearize.dense import dense, random, relative
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn

from steepest.linearize import Linearization


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = mlp(nn.Tanh)
    exact = dense(copy.deepcopy(model).double(), (random(6, 3).to(dtype).double(),))
    lin = Linearization(model.to(dtype), random(6, 3).to(dtype))
    assert lin.features().dtype == dtype
    assert relative(lin.features().double(), exact) < 20 * torch.finfo(dtype).eps
    assert relative(lin.kernel(dtype=torch.float64), exact @ exact.T) < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_weak_coupling_in_half_precision(dtype):
    model = Net(lambda s, x: s.b((h := s.a(x)) - 0.15 * h.mean(0)).tanh(), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    x = random(6, 3).to(dtype)
    exact = dense(copy.deepcopy(model).double(), (x.double(),))
    lin = Linearization(model.to(dtype), x)
    assert relative(lin.features().double(), exact) < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("n", range(2, 9))
def test_as_many_positions_as_examples_in_half_precision(n):
    model = Net(lambda s, x: s.b(s.a(x.transpose(0, 1)).tanh()).square().sum(0), a=nn.Linear(2, 3), b=nn.Linear(3, 2))
    x = random(n, n, 2).bfloat16()
    exact = dense(copy.deepcopy(model).double(), (x.double(),))
    lin = Linearization(model.bfloat16(), x)
    assert relative(lin.features().double(), exact) < 0.1


@pytest.mark.parametrize("large", [False, True])
def test_parameters_of_several_precisions(large, monkeypatch):
    if large:
        monkeypatch.setattr("steepest.linearize._jacobian.chunks._SMALL", 0)

    def run(s, x):
        return s.c(s.n(s.b(s.a(x).to(torch.bfloat16)).float()).to(torch.float64) * s.g)

    model = Net(
        run,
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 4).bfloat16(),
        n=nn.LayerNorm(4),
        c=nn.Linear(4, 2).double(),
        g=parameter(4),
    )
    x = random(4, 3).float()
    precision = 2 * torch.finfo(torch.bfloat16).eps  # of the reference too
    lin, expected = Linearization(model, x), dense(model, (x,))
    assert relative(lin.features(), expected) < precision
    for name in lin.paths:
        columns = lin.labels.columns(name)
        assert relative(lin.features(parameters=name), expected[:, columns]) < precision
    assert relative(lin.kernel(), expected @ expected.T) < precision
    assert relative(lin.kernel(x.clone(), x[:3]), expected @ dense(model, (x[:3],)).T) < precision
    v, u = (random(size) for size in reversed(expected.shape))
    assert relative(lin.matvec(v), expected @ v) < precision
    assert relative(lin.rmatvec(u), expected.T @ u) < precision


def test_an_output_that_is_far_above_another_hides_nothing_of_it():
    model = Net(
        lambda s, x: torch.cat([1e12 * s.a(x), s.b(x) - s.b(x).mean(0)], 1), a=nn.Linear(3, 1), b=nn.Linear(3, 1)
    ).double()
    x = random(4, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x)
    for name in lin.paths:
        columns = lin.labels.columns(name)
        assert relative(lin.features()[:, columns], expected[:, columns]) < 1e-10


def test_an_output_far_above_another_with_a_shared_layer_hides_nothing_of_it():
    def run(s, x):
        h = s.a(x)
        return torch.stack([1e12 * h[:, 0], (h - h.mean(0)).square().sum(1)], 1)

    model = Net(run, a=nn.Linear(3, 2)).double()
    x = random(4, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x)
    for c in range(2):
        assert relative(lin.features()[c::2], expected[c::2]) < 1e-8


def test_a_parameter_far_below_the_others():
    def run(s, x):
        order = x[:, 0].argsort()
        return 1e7 * s.a(x) + 1e-7 * s.b(x[order])[order.argsort()]

    model = Net(run, a=nn.Linear(3, 2), b=nn.Linear(3, 2)).double()
    x = random(5, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x[x[:, 0].argsort()])
    columns = lin.labels.columns("b.weight")
    assert relative(lin.features(x, "b.weight"), expected[:, columns]) < 1e-8
