"""The random probe: factors that are wrong are found by plain autograd."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.dense import dense
from torch import nn
from torch.nn import functional as F

from steepest.errors import SteepestError
from steepest.linearize import Linearization, LinearizationMismatch
from steepest.linearize._factors import Outer
from steepest.linearize._trace.record import Use
from steepest.linearize._trace.rules import RULES
from steepest.linearize._trace.rules import affine as _affine
from steepest.linearize._trace.rules import linear as _linear


def net(dtype=torch.float64, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 2))
    return model.to(dtype)


def points(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def wrong_by(factor):
    """A rule for the weight of a linear layer that is wrong by a factor."""

    def weight_of(slot, x):
        return Use(slot, lambda left, layout, n: Outer(left * factor, _affine.positions_last(x, layout, n)))

    return weight_of


@pytest.mark.parametrize("factor", [2.0, 1.01, -1.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rule_that_is_wrong_is_found_by_the_probe(monkeypatch, factor, dtype):
    monkeypatch.setattr(_linear, "_weight_of", wrong_by(factor))
    model, x = net(dtype), points(7, 3, dtype=dtype)
    with pytest.raises(LinearizationMismatch, match=r"the gradient of [03]\.weight \(linear\) must agree"):
        Linearization(model, x)
    assert issubclass(LinearizationMismatch, SteepestError)
    unchecked = Linearization(model, x, check=False).features(parameters="0.weight")
    expected = factor * dense(model, (x,))[:, :18]
    torch.testing.assert_close(unchecked, expected)


def one_unit(left, right):
    return torch.cat([left[..., :1] * 1.5, left[..., 1:]], -1), right


def one_input(left, right):
    return left, torch.cat([right[..., :1] * 1.5, right[..., 1:]], -1)


def one_example(left, right):
    return left, torch.cat([right[:1] * 1.5, right[1:]])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda left, right: (left * 1.01, right),
        lambda left, right: (left, right.roll(1, 0)),
        one_unit,
        one_input,
        one_example,
    ],
    ids=["factor", "order", "unit", "input", "example"],
)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rule_that_is_wrong_for_a_large_weight_is_found_by_the_sketch(monkeypatch, wrong, outputs, dtype):
    def weight_of(slot, x):
        def build(left, layout, n):
            right = _affine.positions_last(x, layout, n)
            return Outer(*(wrong(left, right) if slot.name == "2.weight" else (left, right)))

        return Use(slot, build)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 150), nn.Tanh(), nn.Linear(150, 140), nn.Tanh(), nn.Linear(140, outputs)).to(
        dtype
    )
    x = points(20, 3, dtype=dtype)
    Linearization(model, x)
    monkeypatch.setattr(_linear, "_weight_of", weight_of)
    with pytest.raises(LinearizationMismatch, match=r"2\.weight"):
        Linearization(model, x)


def test_large_weights_are_compared_without_their_matrix(monkeypatch):
    sizes = []
    rmatvec = Outer.rmatvec
    monkeypatch.setattr(Outer, "rmatvec", lambda self, *args: (sizes.append(self.size), rmatvec(self, *args)))
    Linearization(nn.Sequential(nn.Linear(150, 150), nn.ReLU(), nn.Linear(150, 1)), torch.randn(9, 150))
    assert sorted(set(sizes)) == [1, 150]


def test_a_rule_that_is_wrong_for_one_bias_is_found_by_the_probe(monkeypatch):
    def bias_of(slot):
        factor = 1.5 if slot.name == "3.bias" else 1
        return Use(slot, lambda left, *_: Outer(left * factor, None))

    monkeypatch.setattr(_affine, "bias_of", bias_of)
    with pytest.raises(LinearizationMismatch, match=r"3\.bias"):
        Linearization(net(), points(7, 3))


def test_a_rule_that_changes_the_outputs_is_found_by_the_probe(monkeypatch):
    original = RULES[F.linear]
    monkeypatch.setitem(RULES, F.linear, lambda *args: 2 * original(*args))
    with pytest.raises(SteepestError):
        Linearization(net(), points(7, 3))


class Doubled(torch.autograd.Function):
    """2 x, whose own rule for vmap is wrong."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(_ctx, _inputs, _output):
        pass

    @staticmethod
    def backward(_ctx, g):
        return 2 * g

    @staticmethod
    def vmap(_info, in_dims, x):
        return 3 * x, in_dims[0]


class DoubledGradient(torch.autograd.Function):
    """2 x, whose gradient is by `Doubled`."""

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(_ctx, _inputs, _output):
        pass

    @staticmethod
    def backward(_ctx, g):
        return Doubled.apply(g)


class OwnFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, 0.5]))

    def forward(self, x):
        return DoubledGradient.apply(torch.sin(self.weight) * x).sum(1, keepdim=True)


@pytest.mark.parametrize("examples", [1, 3])
def test_where_an_operation_is_wrong_under_vmap_plain_backward_passes_take_its_place(examples):
    model, x = OwnFunction(), points(examples, 2, dtype=torch.float32)
    linearization = Linearization(model, x)
    assert linearization.paths == {"weight": "backward"}
    torch.testing.assert_close(linearization.features(), 2 * torch.cos(model.weight.detach()) * x)
