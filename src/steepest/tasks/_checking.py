"""What is wrong with a task, found before any training."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steepest._contained import last_line
from steepest._random import seeded
from steepest.errors import SteepestError, TaskError
from steepest.tasks._broadcasting import mixed_shapes
from steepest.tasks._data import Batch, length

if TYPE_CHECKING:
    from steepest.tasks._task import Task

__all__ = ["check_task"]

_BROADCAST = re.compile(
    r"target size \(torch.Size\((.*)\)\) that is different to the input size \(torch.Size\((.*)\)\)"
)
"""The warning that torch's losses give."""


def check_task(task: Task) -> None:
    """Run the model of a task, its loss and its metric once, and say what is wrong.

    Raises:
        TaskError: With the reason.
        UnknownName: If a name in `frozen` is no parameter's or module's.
    """
    with _explained("a task's model function must return a torch.nn.Module", "Call it by hand."):
        model, second = task.build(seed=0), task.build(seed=0)
    _check_parameters(model, second)
    batch = _some_data(task)
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in batch)
    with (
        _no_broadcasting("loss"),
        _explained(
            f"the model and the loss must take the training data, of shapes {shapes}",
            "Compare these shapes with what the first layer and the loss expect.",
        ),
        seeded(0),
    ):
        loss: Any = task.batch_loss(model, batch)
    _check_loss(loss)
    with (
        _no_broadcasting("loss or metric"),
        _explained(
            "the model, the loss and the metric must take the validation data",
            "Give `valid` the shapes of `train`, and let the metric return a number.",
        ),
    ):
        valid, metric = task.evaluate(model)
    if not math.isfinite(valid):
        raise TaskError(
            "a task's validation loss must be finite before training",
            got=valid,
            remedy="Look for NaN in `valid`, and for what the model or the loss does in evaluation mode.",
        )
    if task.metric is not None and not math.isfinite(metric):
        raise TaskError(
            "a task's metric must be a finite number before training",
            got=metric,
            remedy="Look for a division by 0 in it, or for validation data of one class only.",
        )
    _check_shapes(task, model)


def _check_parameters(model: nn.Module, second: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    if not parameters:
        raise TaskError("a model to train must have parameters", got=type(model).__name__, remedy="Add a layer.")
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    if not trained:
        raise TaskError(
            "a model to train must have a parameter that is not frozen",
            got=f"{len(parameters)} frozen",
            remedy="Name less in `frozen`, or set requires_grad=True.",
        )
    others = {id(p) for p in second.parameters()}
    if shared := [name for name, p in trained.items() if id(p) in others]:
        raise TaskError(
            "a task's model function must make a new model each time, or every run goes on where the last one ended",
            got=f"the same {shared[0]} twice",
            remedy="Make the module inside of the function; trained weights come by load_state_dict or copy.deepcopy.",
        )


def _some_data(task: Task) -> Batch:
    """Return a batch, after a look at both ends of the training data."""
    with _explained("the training data must give batches", "Call train[i] by hand for this reason."), seeded(0):
        task.take(torch.tensor([0, length(task.train) - 1]))
        return next(task.batches(torch.Generator().manual_seed(0)))


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.ndim > 0:
        raise TaskError(
            "a task's loss must be a scalar tensor",
            got=f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__,
            remedy="Average over the batch, for example with .mean().",
        )
    if not loss.is_floating_point():
        raise TaskError(
            "a task's loss must be a real floating-point number",
            got=loss.dtype,
            remedy="Convert what is counted with .float(); take .real or .abs() of complex numbers.",
        )
    if not loss.isfinite():
        raise TaskError(
            "a task's loss must be finite before training",
            got=loss.item(),
            remedy="Look for NaN in the data and for log(0) or division by 0 in the loss.",
        )
    if not loss.requires_grad:
        raise TaskError(
            "a task's loss must depend on the model's parameters",
            got="a loss without a gradient",
            remedy="Remove .detach(), .item() or torch.no_grad() from the model and the loss.",
        )


def _check_shapes(task: Task, model: nn.Module) -> None:
    """Look on the first validation data whether every output is held against every target.

    Raises:
        TaskError: If the loss or the metric does.
    """
    with torch.no_grad():
        *inputs, target = next(iter(task.validation_batches()))
        output = model.eval()(*inputs)
    functions = {"loss": task.loss, "metric": task.metric}
    for name, function in functions.items():
        if callable(function) and (found := mixed_shapes(function, output, target)):
            raise _broadcast(name, *map(list, found))


def _broadcast(name: str, output: object, target: object) -> TaskError:
    return TaskError(
        f"a task's {name} must not broadcast outputs and targets of different shapes against each other",
        got=f"outputs {output}, targets {target}",
        remedy="Give both one shape, for example with output.squeeze(1) or target[:, None].",
    )


@contextlib.contextmanager
def _no_broadcasting(name: str) -> Generator[None]:
    """Make an error of the warning with which torch's losses broadcast; give other warnings on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        if found := _BROADCAST.search(str(each.message)):
            raise _broadcast(name, found[2], found[1])
    for each in caught:
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


@contextlib.contextmanager
def _explained(rule: str, remedy: str) -> Generator[None]:
    """Turn what a user's code raises into one line."""
    try:
        yield
    except SteepestError:
        raise
    except Exception as error:
        raise TaskError(rule, got=last_line(error), remedy=remedy) from error
