"""The multilayer perceptron of the built-in tasks."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from steepest._check import at_least

__all__ = ["mlp"]


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """Return `depth` hidden layers of `width` ReLU units and a linear output layer.

    Args:
        inputs: Numbers in an example, >= 1.
        width: Units of a hidden layer, >= 1.
        depth: Hidden layers, >= 0.
        outputs: Numbers in an output, >= 1.

    Raises:
        InvalidArgument: If one of them is no whole number in its range.

    >>> sum(p.numel() for p in mlp(1, width=40, depth=2, outputs=1).parameters())
    1761
    """
    for name, value, least in (
        ("inputs", inputs, 1),
        ("width", width, 1),
        ("depth", depth, 0),
        ("outputs", outputs, 1),
    ):
        at_least(name, value, least)
    sizes = [inputs] + [width] * depth
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))
