"""The training examples at which tangent features are computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steepest.linearize import Linearization
from steepest.tasks import Task

__all__ = ["first_examples", "outputs_of", "spread_examples"]


def outputs_of(model: nn.Module, task: Task) -> int:
    """Return the number of outputs of the model per example."""
    device = next(model.parameters()).device
    one = tuple(tensor.to(device) for tensor in first_examples(task, 1)[:-1])
    return Linearization(model, one, check=False).outputs


def first_examples(task: Task, count: int) -> tuple[Tensor, ...]:
    """Return the first training examples, or all where there are fewer: inputs, and the target last."""
    return tuple(task.take(torch.arange(min(count, task.examples))))


def spread_examples(task: Task, count: int) -> tuple[Tensor, ...]:
    """Return `count` training examples, equally spaced in the data: inputs, and the target last."""
    return tuple(task.take(torch.arange(count) * task.examples // count))
