"""Inputs of any layout in memory, type and number."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.dense import assert_right, dense, random, relative
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn

from steepest.errors import SteepestError
from steepest.linearize import Linearization


@pytest.mark.parametrize("kind", ["channels_last", "transposed", "expanded", "strided", "offset", "flipped"])
def test_inputs_of_any_layout_in_memory(kind):
    x = random(4, 2, 5, 4)
    match kind:
        case "channels_last":
            x = x.to(memory_format=torch.channels_last)
        case "transposed":
            x = random(4, 2, 4, 5).mT
        case "expanded":
            x = random(1, 2, 5, 4).expand(4, -1, -1, -1)
        case "strided":
            x = random(8, 2, 10, 4)[::2, :, ::2]
        case "offset":
            x = random(7, 3, 5, 4)[3:, 1:]
        case _:
            x = torch._neg_view(random(4, 2, 5, 4))
    model = nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(1, 0)),
        nn.ReLU(),
        nn.Conv2d(3, 2, 2, bias=False),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    assert_right(model, x, x.clone()[:3], x.contiguous())


def test_a_model_in_channels_last():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.GroupNorm(3, 3), nn.Conv2d(3, 2, 2), nn.Flatten()).to(
        memory_format=torch.channels_last
    )
    assert_right(model, random(4, 2, 4, 4).to(memory_format=torch.channels_last), random(3, 2, 4, 4))


def test_inputs_that_require_gradients():
    x = random(4, 3).requires_grad_()
    lin = Linearization(model := mlp(nn.Tanh).double(), x)
    assert not lin.features().requires_grad
    assert not lin.kernel(x, x).requires_grad
    assert not lin.predictions(x).requires_grad
    assert relative(lin.features(x), dense(model, (x.detach(),))) < 1e-10
    assert x.grad is None


def test_inputs_made_in_inference_mode():
    model = mlp(nn.Tanh).double()
    with torch.inference_mode():
        x = random(4, 3)
    lin = Linearization(model, x)
    assert relative(lin.features(x), dense(model, (x.clone(),))) < 1e-10


def test_inputs_that_are_broadcast_and_whole_numbers():
    model = Net(lambda s, x, y: s.a(x[:, None] * y.double()).tanh().sum(1), a=nn.Linear(3, 2))
    assert_right(model, (random(4, 3), torch.arange(20).view(4, 5, 1)), (random(3, 3), torch.arange(15).view(3, 5, 1)))


@pytest.mark.parametrize("make", [lambda x: x.to_sparse(), lambda x: torch.nested.nested_tensor(list(x))])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_sparse_and_nested_inputs_are_refused(make):
    x = make(random(4, 3))
    model = Net(
        lambda s, x: (x.to_dense() if x.is_sparse else torch.stack(x.unbind())) @ s.w, w=parameter(3, 2)
    ).double()
    with pytest.raises(SteepestError, match="tensor whose first dimension counts the examples"):
        Linearization(model, x)


def test_complex_inputs():
    model = Net(
        lambda s, x: s.a(torch.view_as_real(x).flatten(1)) + (x * s.g).abs().sum(1, keepdim=True),
        a=nn.Linear(6, 2),
        g=parameter(3),
    )
    assert_right(
        model, torch.complex(random(4, 3), random(4, 3, seed=1)), torch.complex(random(5, 3), random(5, 3, seed=1))
    )
