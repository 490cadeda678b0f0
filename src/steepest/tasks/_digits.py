"""Small real images that come with scikit-learn."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from steepest._check import at_least
from steepest._importing import require
from steepest.tasks._metrics import accuracy
from steepest.tasks._networks import mlp
from steepest.tasks._task import Task

__all__ = ["classification", "digits"]


def digits(width: int = 50, depth: int = 10) -> Task:
    """Return the 1,797 handwritten digits of scikit-learn (8 x 8) with a deep narrow ReLU network.

    Pixels are scaled to [-1, 1]; every fifth example of a fixed permutation is for validation.

    Args:
        width: Units per hidden layer, >= 1.
        depth: Number of hidden layers, >= 1.

    Raises:
        InvalidArgument: If width or depth is no whole number of at least 1.
        MissingExtra: If scikit-learn, which ships the images, is not installed.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI (1998).
    """
    at_least("width", width, 1)
    at_least("depth", depth, 1)
    require("The task digits", "sklearn", extra="compare")
    from sklearn.datasets import load_digits  # the import takes a second

    x, y = load_digits(return_X_y=True)
    return classification("digits", torch.tensor(x).float() / 8 - 1, torch.tensor(y), width, depth)


def classification(name: str, x: Tensor, y: Tensor, width: int, depth: int) -> Task:
    """Return the task of classifying rows of x (n x inputs) into ten classes, a fifth for validation."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    held_out = torch.arange(len(x)) % 5 == 4
    train, valid = order[~held_out], order[held_out]
    return Task(
        name=name,
        model=partial(mlp, x.shape[1], width, depth, 10),
        loss=nn.functional.cross_entropy,
        train=(x[train], y[train].long()),
        valid=(x[valid], y[valid].long()),
        metric=accuracy,
        batch_size=100,
        eval_batch_size=1000,
        steps=200,
        init="he",
    )
