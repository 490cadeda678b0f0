"""Live torch optimizers that their hooks or their format keep from a limit."""

from __future__ import annotations

import functools

import pytest
import torch

from steepest.implicit_bias import (
    predict,
)

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
