"""The training examples at which tangent features are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from steepest.errors import TaskError
from steepest.linearize import Linearization
from steepest.tasks import Task

__all__ = ["first_examples", "number_of_examples", "outputs_of", "spread_examples"]


def outputs_of(model: nn.Module, task: Task) -> int:
    """Return the number of outputs of the model per example."""
    device = next(model.parameters()).device
    one = tuple(tensor.to(device) for tensor in first_examples(task, 1)[:-1])
    return Linearization(model, one, check=False).outputs


def number_of_examples(task: Task) -> int:
    """Return the number of training examples.

    Raises:
        TaskError: If they have no numbers.
    """
    if task.examples is None:
        raise _cannot("examples with numbers", "a stream or a DataLoader", "Give the task tensors or a Dataset.")
    return task.examples


def first_examples(task: Task, count: int) -> tuple[Tensor, ...]:
    """Return the first training examples, or all where there are fewer: inputs, and the target last."""
    return _taken(task, torch.arange(min(count, number_of_examples(task))))


def spread_examples(task: Task, count: int) -> tuple[Tensor, ...]:
    """Return `count` training examples, equally spaced in the data: inputs, and the target last."""
    return _taken(task, torch.arange(count) * number_of_examples(task) // count)


def _taken(task: Task, indices: Tensor) -> tuple[Tensor, ...]:
    """Return examples by number.

    Raises:
        TaskError: If the model is not called with tensors alone.
    """
    batch: Any = task.take(indices)
    if not isinstance(batch, (tuple, list)) or not all(isinstance(part, Tensor) for part in batch):
        raise _cannot("tuples of tensors (inputs..., target)", type(batch).__name__, "Its model cannot be linearised.")
    if task.loss is None:
        raise _cannot("a model that is called with its inputs", "no loss", "Pass loss= to the task.")
    return tuple(batch)


def _cannot(needed: str, got: str, remedy: str) -> TaskError:
    return TaskError(f"tangent features need {needed}", got=got, remedy=remedy)
