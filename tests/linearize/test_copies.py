"""A linearization is of a copy of the model: what no copy can follow, and what is done to the original later."""

from __future__ import annotations

import copy
import types

import pytest
import torch
from tests.linearize.dense import assert_right, dense, random, relative
from tests.linearize.zoo import Net, mlp
from torch import nn
from torch.nn import functional as F

from steepest.errors import SteepestError
from steepest.linearize import Linearization


class Closure(nn.Module):
    """Holds a function that has closed over the module itself, which no copy of it can follow."""

    def __init__(self):
        super().__init__()
        self.a, self.w = nn.Linear(3, 4), nn.Parameter(torch.randn(4, 2))
        self.head = lambda h: h @ self.w

    def forward(self, x):
        return self.head(self.a(x).tanh())


def forward_closed_over_itself():
    model = nn.Linear(3, 2)
    model.forward = lambda x: F.linear(x, model.weight, model.bias).tanh()
    return model


def hook_closed_over_another_part():
    model = mlp(nn.Tanh)
    model[0].register_forward_hook(lambda *call: call[2] * model[2].bias.sum())
    return model


@pytest.mark.parametrize("make", [Closure, forward_closed_over_itself, hook_closed_over_another_part])
def test_what_has_closed_over_the_model_is_refused(make):
    with pytest.raises(SteepestError, match="copy of the model must use its own parameters"):
        Linearization(make().double(), random(4, 3))


def test_outputs_that_the_original_makes_are_refused():
    model = Net(lambda s, x: s.a(x).tanh(), a=nn.Linear(3, 4), head=nn.Linear(4, 2)).double()
    with pytest.raises(SteepestError, match="copy of the model must use its own parameters"):
        Linearization(model, random(4, 3), lambda h: model.head(h))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_model_is_refused_as_its_copies_run_with_the_original_weights():
    with pytest.raises(SteepestError, match="copy of the model must use its own parameters"):
        Linearization(torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Tanh())), torch.zeros(4, 3))


def test_a_forward_bound_to_the_model_is_bound_to_the_copy():
    model = nn.Linear(3, 2).double()
    model.forward = types.MethodType(lambda self, x: F.linear(x, self.weight, self.bias).tanh(), model)
    x = random(4, 3)
    lin, expected = Linearization(model, x), dense(model, (x,))
    nn.init.zeros_(model.weight)
    assert relative(lin.features(x.clone()), expected) < 1e-10


@pytest.mark.parametrize("use", [lambda out, scale: out * scale, lambda out, scale: torch.stack([out, scale]).prod(0)])
def test_a_buffer_of_the_original_that_a_hook_reads_is_refused(use):
    """It would follow the original's later life."""
    model = mlp(nn.Tanh).double()
    model.register_buffer("scale", torch.ones(4, 2, dtype=torch.float64))
    model.register_forward_hook(lambda *call: use(call[2], model.scale))
    with pytest.raises(SteepestError, match="a buffer of the original"):
        Linearization(model, random(4, 3))


def test_a_parameter_of_another_module_in_a_closure():
    scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    model = Net(lambda s, x: s.a(x) * scale, a=nn.Linear(3, 2))
    assert_right(model, random(4, 3))


def test_training_on_changes_nothing():
    model = mlp(nn.ReLU).double()
    model.register_buffer("table", torch.ones(3, dtype=torch.float64))
    x = random(4, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    model[0] = nn.Linear(3, 5).double()
    del model[4]
    assert relative(lin.features(), expected) < 1e-10
    assert relative(lin.features(x.clone()), expected) < 1e-10
    assert relative(lin.kernel(), expected @ expected.T) < 1e-10


@pytest.mark.parametrize("n", [4, 40])
def test_inputs_that_are_written_over_later_change_nothing(n):
    model, x = mlp(nn.Tanh).double(), random(n, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x)
    x.copy_(random(n, 3, seed=1))
    assert relative(lin.features(), expected) < 1e-10
    assert relative(lin.kernel(), expected @ expected.T) < 1e-10
    assert relative(lin.predictions(), model(random(n, 3)).detach()) < 1e-10


@pytest.mark.parametrize("activation", [nn.ELU, nn.Hardtanh, nn.SELU])
def test_a_model_that_writes_into_its_inputs_gets_copies(activation):
    model = nn.Sequential(activation(inplace=True), nn.Linear(3, 2)).double()
    x = 2 * random(4, 3)
    before = x.clone()
    expected = dense(model, (before,))
    lin = Linearization(model, x)
    assert relative(lin.features(), expected) < 1e-10
    assert relative(lin.features(before.clone()), expected) < 1e-10
    other = 2 * random(4, 3, seed=1)
    untouched = other.clone()
    lin.kernel(other)
    lin.predictions(other)
    assert torch.equal(other, untouched)
    assert torch.equal(x, before)


def test_tokens_that_the_model_writes_over():
    def run(s, x):
        h = s.t(x)
        x.zero_()
        return s.a(h).sum(1)

    with pytest.raises(SteepestError, match=r"in-?place"):
        Linearization(Net(run, t=nn.Embedding(5, 3), a=nn.Linear(3, 2)), torch.tensor([[1, 2], [3, 4], [0, 2]]))


def test_gradients_modes_and_buffers_of_the_model_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    model.train()
    model(random(5, 3)).sum().backward()
    model[1].eval()
    model[3].eval()
    state = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    Linearization(model, random(4, 3)).svd()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [m.training for m in model.modules()] == modes


def test_a_module_that_cannot_be_copied_is_refused():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(3, 2))
    layer(torch.zeros(1, 3))
    with pytest.raises(SteepestError, match="must be copyable"):
        Linearization(layer, torch.zeros(4, 3))
