"""Views, work in place, and gradients that are not what they seem."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.dense import assert_right, dense, random
from tests.linearize.zoo import Net, parameter
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from steepest.errors import SteepestError
from steepest.linearize import Linearization


def test_a_view_made_without_gradients_has_none():
    def run(s, x):
        with torch.no_grad():
            first = s.w[0]
        return F.linear(x, first) * F.linear(x, s.w[1])

    assert_right(Net(run, w=parameter(2, 2, 3)), random(4, 3), random(5, 3))


def test_a_negated_view():
    model = Net(lambda s, x: x * torch.view_as_complex(s.w).conj().imag + s.b(x), w=parameter(3, 2), b=nn.Linear(3, 3))
    assert_right(model, random(4, 3))


def test_a_view_as_another_type():
    model = Net(lambda s, x: s.a(x) + s.w.view(torch.int64)[0].clamp(0, 1), a=nn.Linear(3, 2), w=parameter(2)).double()
    assert_right(model, random(4, 3))


def test_gradients_scaled_by_frequency_are_those_that_autograd_gives():
    """They are the derivative of nothing, and depend on the whole batch."""
    model = Net(lambda s, x: s.t(x).sum(1), t=nn.Embedding(3, 2, scale_grad_by_freq=True))
    assert_right(model, torch.tensor([[0, 1, 1], [2, 0, 1], [1, 1, 1]]), torch.tensor([[2, 2, 1], [1, 0, 1]]))


def test_a_gradient_that_is_not_a_number():
    model = Net(lambda s, x: ((h := s.a(x)) * (h > 0)).sqrt(), a=nn.Linear(3, 2)).double()
    x = random(6, 3)
    assert not dense(model, (x,)).isfinite().all()
    with pytest.raises(SteepestError, match="finite"):
        Linearization(model, x)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("first", [True, False])
def test_reentrant_checkpoints_are_refused(first):
    """torch.autograd.grad gives their parameters no gradient, where backward() does."""

    def run(s, x):
        return s.b(checkpoint(s.a, x.requires_grad_() if first else s.c(x), use_reentrant=True))

    model = Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 2), c=nn.Linear(3, 3)).double()
    with pytest.raises(SteepestError, match="reentrant"):
        Linearization(model, random(4, 3))


def test_what_autograd_cannot_differentiate_is_refused():
    def run(s, x):
        h = s.a(x).exp()
        out = s.b(h)
        h.mul_(2)
        return out

    with pytest.raises(SteepestError, match=r"in-?place"):
        Linearization(Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 2)).double(), random(4, 3))


@pytest.mark.parametrize("check", [True, False])
def test_derivatives_inside_of_the_model_are_followed(check):
    def run(s, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = s.b(s.a(x).tanh()).sum(1)
            (force,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        return force

    model = Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 1))
    assert_right(model, random(4, 3), random(5, 3), check=check)


def test_forces_only_for_some_batches():
    def run(s, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = s.b(s.a(x).tanh()).sum(1)
            if x.sum() > 0:
                return torch.autograd.grad(energy.sum(), x, create_graph=True)[0]
            return energy[:, None] * x

    x = random(4, 3).abs()
    assert_right(Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 1)), -x, x)


@pytest.mark.parametrize("check", [True, False])
def test_a_layer_of_sequences_may_be_changed_in_place(check):
    """Its output is a view, and what is done to a view in place rewrites its history."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    assert set(assert_right(model, random(5, 6, 3), check=check).paths.values()) == {"linear"}
