"""Checks of a task before any training."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from steepest._contained import last_line
from steepest._random import seeded
from steepest.errors import SteepestError, TaskError
from steepest.tasks._batch import Batch, call, check_batch, leaves, shown, target_of
from steepest.tasks._broadcasting import mixed_shapes
from steepest.tasks._metric import Metric, ranked_by
from steepest.tasks._objective import Objective

__all__ = ["check_gradient", "check_task"]

_BROADCAST = re.compile(
    r"target size \(torch.Size\((.*)\)\) that is different to the input size \(torch.Size\((.*)\)\)"
)
"""The warning that torch's losses give."""


_MOST_READ, _SECONDS = 64, 2.0
"""How many training batches without numbers are read, and for how long."""


class Checked(Protocol):
    """The part of a `steepest.tasks.Task` that is checked."""

    @property
    def metrics(self) -> Mapping[str, Metric]: ...
    @property
    def rank_by(self) -> str: ...
    @property
    def examples(self) -> int | None: ...
    @property
    def _objective(self) -> Objective: ...
    def build(self, seed: int) -> nn.Module: ...
    def take(self, indices: Tensor) -> Batch: ...
    def batches(self, generator: torch.Generator) -> Iterator[Batch]: ...
    def training_loss(self, model: nn.Module, batch: Batch) -> Tensor: ...
    def validation_batches(self) -> Iterator[Batch]: ...
    def validate(self, model: nn.Module) -> tuple[float, dict[str, float]]: ...


def check_task(task: Checked, *, needs_gradient: bool = True) -> None:
    """Run the model of a task, its loss and its metric once, and raise if something is wrong.

    Args:
        task: The task.
        needs_gradient: Whether its loss must have a gradient.

    Raises:
        TaskError: If a check fails; the message has the reason.
        UnknownName: If no parameter or module has a name in `frozen`.
    """
    with _explained("a task's model function must return a torch.nn.Module", "Call it by hand."):
        model, second = task.build(seed=0), task.build(seed=0)
    _check_parameters(model, second)
    _check_direction(task)
    shared = _shared_tensors(model, second)
    batch, valid_batch = _some_data(task)
    with (
        _no_broadcasting("loss"),
        _explained(
            f"the model and the loss must take the training data, of shapes {shown(batch)}",
            "Compare these shapes with what the first layer and the loss expect.",
        ),
        seeded(0),
    ):
        loss: Any = task.training_loss(model, batch)
    _check_loss(loss)
    if needs_gradient:
        check_gradient(loss)
    for name, (tensor, before) in shared.items():
        if not torch.equal(tensor, before):
            raise _not_new(name)
    with (
        _no_broadcasting("loss or metric"),
        _explained(
            "the model, the loss and the metrics must take the validation data",
            "Give `valid` the shapes of `train`, and let a metric return a number.",
        ),
    ):
        valid, values = task.validate(model)
    if not math.isfinite(valid):
        raise TaskError(
            "a task's validation loss must be finite before training",
            got=valid,
            remedy="Look for NaN in `valid`, and check the model and the loss in evaluation mode.",
        )
    for name, value in values.items():
        if not math.isfinite(value):
            raise TaskError(
                f"a task's metric {name} must be a finite number before training",
                got=value,
                remedy="Look for a division by 0 in it, or for validation data of one class only.",
            )
    _check_shapes(task, model, batch, valid_batch)


def _check_direction(task: Checked) -> None:
    name, higher_is_better = ranked_by(task.rank_by, task.metrics)
    if higher_is_better is None:
        raise TaskError(
            f"the metric {name} must say whether higher is better, as rank_by names it",
            got="no direction",
            remedy=f'Pass metric=Metric({name}, higher_is_better=True), or rank_by="max:{name}".',
        )


def _check_parameters(model: nn.Module, second: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    if not parameters:
        raise TaskError("a model to train must have parameters", got=type(model).__name__, remedy="Add a layer.")
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    if not trained:
        raise TaskError(
            "a model to train must have a parameter that is not frozen",
            got=f"{len(parameters)} frozen",
            remedy="Remove names from `frozen`, or set requires_grad=True.",
        )
    if shared := [name for name in _shared_tensors(model, second) if name in trained]:
        raise _not_new(shared[0])


def _shared_tensors(model: nn.Module, second: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return by name the tensors of a model that share memory with another model, each with a copy of its value.

    Two parameters may be different objects that share memory: nn.Parameter(tensor), Embedding.from_pretrained and
    load_state_dict(assign=True) copy nothing.
    """
    others = {_memory(tensor) for tensor in _tensors(second).values()} - {0}
    return {name: (t, t.detach().clone()) for name, t in _tensors(model).items() if _memory(t) in others}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _memory(tensor: Tensor) -> int:
    """Return the address of a tensor's memory; 0 if it has none."""
    try:
        return tensor.untyped_storage().data_ptr() if tensor.numel() else 0
    except (NotImplementedError, RuntimeError, ValueError):  # sparse, or not yet initialised
        return 0


def _not_new(name: str) -> TaskError:
    return TaskError(
        "a task's model function must make a new model each time, or every run continues where the last one ended",
        got=f"the same memory of {name} twice",
        remedy="Make the module inside of the function; copy trained weights with load_state_dict, .clone() or "
        "copy.deepcopy.",
    )


def _some_data(task: Checked) -> tuple[Batch, Batch]:
    """Return a training and a validation batch, after reading the data as far as that is cheap.

    By number, the first and the last training example are read; else as many batches as a second or so allows, twice,
    so that a stream which is used up, or a DataLoader that ends early, shows before any training.
    """
    with _explained("the training data must give batches", "Read them by hand: next(iter(...)), or train[i]."):
        if task.examples is not None:
            task.take(torch.tensor([0, task.examples - 1]))
        else:
            _read(task)
        batch = next(task.batches(torch.Generator().manual_seed(0)))
    with _explained("the validation data must give batches", "Read them by hand: next(iter(...)), or valid[i]."):
        valid_batch = next(iter(task.validation_batches()))
    any_parts = task._objective.batch_loss is not None
    check_batch("train", batch, any_parts=any_parts)
    check_batch("valid", valid_batch, any_parts=any_parts)
    places = [[place for place, _ in leaves(each)] for each in (batch, valid_batch)]
    if not any_parts and sorted(places[0]) != sorted(places[1]):
        raise TaskError(
            "the batches of valid must have the parts that those of train have",
            got=f"{shown(valid_batch)} instead of {shown(batch)}",
            remedy="Give both the same structure.",
        )
    return batch, valid_batch


def _read(task: Checked) -> None:
    until = time.monotonic() + _SECONDS
    batches = task.batches(torch.Generator().manual_seed(0))
    for _ in itertools.islice(batches, _MOST_READ):
        if time.monotonic() > until:
            return


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
            remedy="Convert counts with .float(); take .real or .abs() of complex numbers.",
        )
    if not loss.isfinite():
        raise TaskError(
            "a task's loss must be finite before training",
            got=loss.item(),
            remedy="Look for NaN in the data and for log(0) or division by 0 in the loss.",
        )


def check_gradient(loss: Any) -> None:
    """Check that a loss can be differentiated by backpropagation.

    Raises:
        TaskError: If it has no gradient.
    """
    if isinstance(loss, Tensor) and not loss.requires_grad:
        raise TaskError(
            "a task's loss must depend on the model's parameters",
            got="a loss without a gradient",
            remedy="Remove .detach(), .item() or torch.no_grad() from the model and the loss. A loss without a "
            'derivative can be trained with gradient="score-function" (--gradient score-function).',
        )


def _check_shapes(task: Checked, model: nn.Module, training: Batch, validation: Batch) -> None:
    """Check on the first training and validation batch that outputs are not compared with every target.

    Raises:
        TaskError: If the loss or the metric does so.
    """
    model.eval()
    objective = task._objective
    functions = {"loss": objective.loss, "valid_loss": objective.valid_loss}
    functions |= {f"metric {name}": each.function for name, each in task.metrics.items()}
    for batch in (training, validation):  # which may be one example
        target = target_of(batch)
        if not isinstance(batch, (tuple, list)) or not isinstance(target, Tensor) or not any(functions.values()):
            return
        with torch.no_grad():
            output = call(model, batch, whole=objective.in_model)
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
    """Raise where torch's losses warn of broadcasting; issue other warnings again."""
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
    """Turn an error of user code into one line."""
    try:
        yield
    except SteepestError:
        raise
    except Exception as error:
        raise TaskError(rule, got=last_line(error), remedy=remedy) from error
