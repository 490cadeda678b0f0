"""The three losses of many points at once, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from steepest.implicit_bias._problem import Problem

__all__ = ["gradient_at", "loss_at"]


def loss_at(problem: Problem, theta: Tensor) -> Tensor:
    """Return the loss of all rows at each theta.

    Args:
        problem: With m x n.
        theta: runs x n.
    """
    values = theta @ problem.A.mT
    if problem.loss == "squared":
        return (values - problem.b).square().sum(dim=-1) / 2
    margins = values * problem.b
    if problem.loss == "logistic":
        return torch.nn.functional.softplus(-margins).sum(dim=-1)
    return torch.exp(-margins).sum(dim=-1)


def gradient_at(problem: Problem, theta: Tensor, batch: Tensor | None = None) -> Tensor:
    """Return the gradient of each theta's batch.

    Args:
        problem: With m x n.
        theta: runs x n.
        batch: The rows of each run, runs x k; None for all rows.
    """
    if batch is None:
        return _slopes(problem, theta @ problem.A.mT, problem.b) @ problem.A
    rows = problem.A[batch]
    values = (rows @ theta[:, :, None])[:, :, 0]
    return (_slopes(problem, values, problem.b[batch])[:, None, :] @ rows)[:, 0]


def _slopes(problem: Problem, values: Tensor, b: Tensor) -> Tensor:
    if problem.loss == "squared":
        return values - b
    if problem.loss == "logistic":
        return -b * torch.sigmoid(-values * b)
    return -b * torch.exp(-values * b)
