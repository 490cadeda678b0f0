"""The network of the course."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """Return `depth` hidden layers of `width` ReLU units and a linear output layer.

    >>> sum(p.numel() for p in mlp(1, width=40, depth=2, outputs=1).parameters())
    1761
    """
    sizes = [inputs] + [width] * depth
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))
