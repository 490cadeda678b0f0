"""Hooks of the user's own count."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.linearize.dense import assert_right, random
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn


def test_forward_hooks_and_hooks_on_gradients_count():
    model = mlp(nn.Tanh)
    model[0].register_forward_hook(lambda *call: 2 * call[2])
    model[2].register_forward_pre_hook(lambda *call: (call[1][0] + 1,))
    model[2].register_full_backward_hook(lambda *call: (3 * call[1][0],))
    assert_right(model, random(4, 3), random(5, 3), random(1, 3))


def test_gradient_reversal_by_a_hook_on_a_tensor():
    def run(s, x):
        h = s.a(x)
        h.register_hook(lambda g: -g)
        k = s.b(h.tanh())
        k.register_hook(lambda g: g.clamp(-0.1, 0.1))
        return k * s.g

    assert_right(Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 2), g=parameter(2)), random(4, 3), random(5, 3))


def scaled(found):
    """Twice the numbers of a tensor, or of each in a tuple."""
    if isinstance(found, tuple):
        return tuple(map(scaled, found))
    return 2 * found if isinstance(found, torch.Tensor) and found.is_floating_point() else found


HOOKS = {
    "forward": lambda layer: layer.register_forward_hook(lambda *call: scaled(call[2])),
    "forward that returns a tuple": lambda layer: layer.register_forward_hook(
        lambda *call: scaled(call[2]) if isinstance(call[2], tuple) else (scaled(call[2]),)
    ),
    "forward that only looks": lambda layer: layer.register_forward_hook(lambda *_: None),
    "forward with keywords": lambda layer: layer.register_forward_hook(lambda *call: scaled(call[3]), with_kwargs=True),
    "before": lambda layer: layer.register_forward_pre_hook(lambda *call: scaled(call[1])),
    "before, with keywords": lambda layer: layer.register_forward_pre_hook(
        lambda *call: (scaled(call[1]), call[2]), with_kwargs=True
    ),
    "backward": lambda layer: layer.register_full_backward_hook(lambda *call: scaled(call[1])),
    "backward that only looks": lambda layer: layer.register_full_backward_hook(lambda *_: None),
    "before backward": lambda layer: layer.register_full_backward_pre_hook(lambda *call: scaled(call[1])),
}

LAYERS = {
    "linear": lambda: nn.Linear(4, 4),
    "convolution": lambda: nn.Conv1d(5, 5, 3, padding=1),
    "normalization": lambda: nn.LayerNorm(4),
    "activation": nn.Tanh,
    "without a rule": lambda: nn.PReLU(5),
    "recurrent": lambda: nn.LSTM(4, 4, batch_first=True),
    "attention": lambda: nn.MultiheadAttention(4, 2, batch_first=True),
    "encoder": lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True),
}

OFTEN = "linear", "without a rule", "recurrent", "attention"
"""One of each way: by a rule, by the general path, with a tuple as output, and with several inputs."""


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    "layer", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in LAYERS]
)
def test_a_hook_on_any_layer_counts_and_stays_where_it_is(hook, layer):
    def run(s, x):
        h = s.first(x)
        h = s.layer(h, h, h) if layer == "attention" else s.layer(h)
        return s.last((h[0] if isinstance(h, tuple) else h).flatten(1))

    model = Net(run, first=nn.Linear(4, 4), layer=LAYERS[layer](), last=nn.Linear(20, 2)).double()
    HOOKS[hook](model.layer)
    state, hooks = copy.deepcopy(model.state_dict()), count_of_hooks(model)
    assert_right(model, random(3, 5, 4), random(2, 5, 4))
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert count_of_hooks(model) == hooks == 1


def count_of_hooks(model):
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def test_a_hook_that_doubles_the_output_doubles_the_features():
    plain, model = mlp(nn.Tanh), mlp(nn.Tanh)
    model.load_state_dict(plain.state_dict())
    model[4].register_forward_hook(lambda *call: 2 * call[2])
    x = random(4, 3)
    torch.testing.assert_close(assert_right(model, x).features(), 2 * assert_right(plain, x).features())
