"""Metrics of the built-in tasks."""

from __future__ import annotations

from torch import Tensor

__all__ = ["accuracy", "rmse"]


def accuracy(output: Tensor, target: Tensor) -> float:
    """Return the share of rows of `output` (n x classes) whose largest entry is at `target` (n)."""
    return float((output.argmax(dim=1) == target).float().mean())


def rmse(output: Tensor, target: Tensor) -> float:
    """Return the root mean square of output - target."""
    return float((output - target).square().mean().sqrt())
