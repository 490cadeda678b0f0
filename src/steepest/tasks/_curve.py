"""A one-dimensional regression."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steepest._check import at_least
from steepest.tasks._metrics import rmse
from steepest.tasks._networks import mlp
from steepest.tasks._task import Task

__all__ = ["curve"]


def curve(width: int = 40, depth: int = 1) -> Task:
    """Return the regression of a continuous zigzag curve on [0, 1] from 200 noisy points.

    With t = 10 x the target is y(x) = (t - floor t) sin(12345 ceil t) - (t - ceil t) sin(12345 floor t),
    which joins the points sin(12345 k) at x = k/10 by straight lines; the training noise is N(0, 0.1^2).
    Validation is on 1,000 equally spaced points without noise. The network's first-layer biases place
    each kink -b/w uniformly in [0, 1], so a trial uses the network's own init by default.

    Args:
        width: Units per hidden layer, >= 1.
        depth: Number of hidden layers, >= 1.

    Raises:
        InvalidArgument: If width or depth is no whole number of at least 1.

    Source: EECS 182, Fall 2025, homework 2.
    """
    at_least("width", width, 1)
    at_least("depth", depth, 1)
    random = np.random.RandomState(1)  # the data of the source, bit for bit
    x = np.sort(random.rand(200, 1), axis=0)
    y = _target(x) + random.normal(0, 0.1, x.shape)
    grid = np.linspace(0, 1, 1000)[:, None]
    as_tensor = partial(torch.tensor, dtype=torch.float32)
    return Task(
        name="curve",
        model=partial(_network, width, depth),
        loss=nn.functional.mse_loss,
        train=(as_tensor(x), as_tensor(y)),
        valid=(as_tensor(grid), as_tensor(_target(grid))),
        metric=rmse,
        batch_size=40,
        eval_batch_size=1000,
        steps=2000,
        init="default",
    )


def _target(x: NDArray[np.float64]) -> NDArray[np.float64]:
    t = 10 * x
    low = np.floor(t)
    high = low + 1  # ceil(t), but at whole t, where the formula would leave the curve for 0
    return (t - low) * np.sin(12345 * high) - (t - high) * np.sin(12345 * low)


def _network(width: int, depth: int) -> nn.Sequential:
    network = mlp(1, width, depth, 1)
    first = network[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.bias.copy_(-first.weight[:, 0] * torch.rand(width))
    return network
