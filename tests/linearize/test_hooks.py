"""Hooks of the user's own count."""

from __future__ import annotations

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
