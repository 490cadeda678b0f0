"""Metrics of the built-in tasks."""

from __future__ import annotations

from torch import Tensor

from steepest._check import floating, instance
from steepest.errors import InvalidArgument

__all__ = ["accuracy", "rmse"]


def accuracy(output: Tensor, target: Tensor) -> float:
    """Return the share of rows of `output` (n x classes) whose largest entry is at `target` (n).

    Further dimensions (n x classes x positions, n x positions) are counted as rows.

    Raises:
        InvalidArgument: If they are no tensors of these shapes.
    """
    if floating("output", output).ndim < 2 or output.shape[1] < 1:
        raise InvalidArgument("output must be n x classes", got=tuple(output.shape), remedy="Add a dimension.")
    shape = (output.shape[0], *output.shape[2:])
    if instance("target", target, Tensor, "a tensor").shape != shape or target.is_meta:
        raise InvalidArgument(f"target must be of shape {shape}", got=tuple(target.shape), remedy="Pass class numbers.")
    return float((output.argmax(dim=1) == target).float().mean())


def rmse(output: Tensor, target: Tensor) -> float:
    """Return the root mean square of output - target."""
    return float((output - target).square().mean().sqrt())


vars(accuracy)["higher_is_better"] = True  # as the metrics of torchmetrics say it
vars(rmse)["higher_is_better"] = False
