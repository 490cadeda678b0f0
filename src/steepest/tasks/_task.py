"""The object that says what is trained."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from steepest._random import seeded
from steepest.errors import InvalidArgument, TaskError

__all__ = ["Batch", "Task"]

Batch = Sequence[Tensor]
"""Tensors with a common first dimension: the model's inputs, and last the target."""

_EVALUATION_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its data, its loss and its metric.

    A batch is a sequence of tensors with a common first dimension; the last is the target and the others
    are what the model is called with: loss(model(*inputs), target).

    Args:
        model: Called without arguments, returns a new module. Random numbers that it draws from torch's
            global generator are seeded by the trial and leave no trace.
        loss: loss(output, target) -> a scalar, the mean over the batch.
        train: Tensors (inputs..., target), or a map-style `Dataset` of such tuples.
        valid: The same, for validation.
        metric: metric(output, target) -> a number, the mean over the batch; only reported.
        batch_size: Examples a training step, drawn without replacement within an epoch, 1 to len(train).
        steps: Training steps of one run, unless the trial says otherwise.
        name: How reports call it.
        init: The name of the init that a trial uses unless told otherwise.
        frozen: Parameters that do not train on purpose: names, names of modules, or patterns as in a shell.

    Raises:
        InvalidArgument: If a number is outside its range, or the data are no such tensors.

    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> task = Task(model=lambda: nn.Linear(1, 1), loss=nn.functional.mse_loss,
    ...             train=(x, 2 * x), valid=(x, 2 * x), batch_size=16, steps=100)
    >>> [tuple(tensor.shape) for tensor in next(task.batches(torch.Generator()))]
    [(16, 1), (16, 1)]
    """

    model: Callable[[], nn.Module]
    loss: Callable[[Any, Tensor], Tensor]
    train: Dataset[Any] | tuple[Tensor, ...]
    valid: Dataset[Any] | tuple[Tensor, ...]
    metric: Callable[[Any, Tensor], Any] | None = None
    batch_size: int = 100
    steps: int = 300
    name: str = "task"
    init: str = "he"
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("model", "loss"):
            if not callable(getattr(self, field)):
                raise InvalidArgument(
                    f"a task's {field} is a function", got=getattr(self, field), remedy="Pass a callable."
                )
        for field in ("train", "valid"):
            _check_data(field, getattr(self, field))
        size = self.examples
        if not 1 <= self.batch_size <= size:
            raise InvalidArgument(
                f"batch_size must lie between 1 and the {size} training examples",
                got=self.batch_size,
                remedy="Choose a smaller batch.",
            )
        if self.steps < 1:
            raise InvalidArgument("steps must be at least 1", got=self.steps, remedy="Pass steps >= 1.")

    def build(self, seed: int) -> nn.Module:
        """Return a new model; torch's global generator is seeded for it and restored after it.

        Raises:
            TaskError: If the model's function does not return a module.
        """
        with seeded(seed):
            model: Any = self.model()
        if not isinstance(model, nn.Module):
            raise TaskError(
                "a task's model function returns a torch.nn.Module",
                got=type(model).__name__,
                remedy="Return the module itself, for example model=lambda: Net().",
            )
        return model

    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield training batches without end: every epoch a new order, an incomplete last batch left out."""
        size = self.examples
        while True:
            order = torch.randperm(size, generator=generator)
            for start in range(0, size - self.batch_size + 1, self.batch_size):
                yield self.take(order[start : start + self.batch_size])

    @property
    def examples(self) -> int:
        """How many training examples there are."""
        return _length(self.train)

    def take(self, indices: Tensor) -> Batch:
        """Return the training examples of these numbers."""
        return _take(self.train, indices)

    def batch_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return loss(model(*inputs), target)."""
        *inputs, target = batch
        return self.loss(model(*inputs), target)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, device: torch.device | str = "cpu") -> tuple[float, float]:
        """Return the mean validation loss and metric (nan without one), in evaluation mode."""
        training = model.training
        size = _length(self.valid)
        model.eval()
        try:
            parts = [self._evaluate_part(model, start, device) for start in range(0, size, _EVALUATION_BATCH)]
        finally:
            model.train(training)
        loss, metric = torch.tensor(parts, dtype=torch.float64).T @ torch.tensor(
            [min(_EVALUATION_BATCH, size - start) / size for start in range(0, size, _EVALUATION_BATCH)],
            dtype=torch.float64,
        )
        return float(loss), float(metric)

    def _evaluate_part(self, model: nn.Module, start: int, device: torch.device | str) -> tuple[float, float]:
        stop = min(start + _EVALUATION_BATCH, _length(self.valid))
        *inputs, target = (tensor.to(device) for tensor in _slice(self.valid, start, stop))
        output = model(*inputs)
        return float(self.loss(output, target)), float(self.metric(output, target)) if self.metric else math.nan

    @property
    def metric_name(self) -> str:
        """The metric's own name, or "" without one."""
        return "" if self.metric is None else str(getattr(self.metric, "__name__", type(self.metric).__name__))

    def check(self) -> None:
        """Run the model once on a batch, so that what is wrong shows before any training.

        Raises:
            TaskError: If the model, the loss or the metric fails on a batch, or the loss is not a finite
                scalar that depends on the model.
        """
        model = self.build(seed=0)
        if next(model.parameters(), None) is None:
            raise TaskError("a model to train has parameters", got=type(model).__name__, remedy="Add a layer.")
        batch = next(self.batches(torch.Generator().manual_seed(0)))
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in batch)
        try:
            with seeded(0):
                loss: Any = self.batch_loss(model, batch)
        except Exception as error:
            raise TaskError(
                f"the model and the loss must take the training data, of shapes {shapes}",
                got=_last_line(error),
                remedy="Compare these shapes with what the first layer and the loss expect.",
            ) from error
        if not isinstance(loss, Tensor) or loss.ndim > 0:
            raise TaskError(
                "a task's loss must be a scalar tensor",
                got=f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__,
                remedy="Average over the batch, for example with .mean().",
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
        try:
            self.evaluate(model)
        except Exception as error:
            raise TaskError(
                "the model, the loss and the metric must take the validation data",
                got=_last_line(error),
                remedy="Give `valid` the shapes of `train`, and let the metric return a number.",
            ) from error

    def fingerprint(self) -> str:
        """Return a digest of the data, the batch size and the shapes of the model's parameters."""
        digest = hashlib.sha256(f"{self.name} {self.batch_size}".encode())
        for name, parameter in self.build(seed=0).named_parameters():
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        for data in (self.train, self.valid):
            # Of a Dataset, which may be too large to read, the length and the two ends.
            tensors = data if isinstance(data, tuple) else _take(data, torch.tensor([0, _length(data) - 1]))
            digest.update(str(_length(data)).encode())
            for tensor in tensors:
                content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + content.tobytes())
        return digest.hexdigest()[:16]


def _length(data: Dataset[Any] | tuple[Tensor, ...]) -> int:
    return len(data[0]) if isinstance(data, tuple) else len(cast(Any, data))


def _take(data: Dataset[Any] | tuple[Tensor, ...], indices: Tensor) -> Batch:
    if isinstance(data, tuple):
        return [tensor[indices] for tensor in data]
    if isinstance(data, TensorDataset):
        return list(data[indices])
    return cast(Batch, default_collate([data[int(i)] for i in indices]))


def _slice(data: Dataset[Any] | tuple[Tensor, ...], start: int, stop: int) -> Batch:
    return [t[start:stop] for t in data] if isinstance(data, tuple) else _take(data, torch.arange(start, stop))


def _check_data(field: str, data: Any) -> None:
    if isinstance(data, tuple):
        lengths = {len(tensor) if isinstance(tensor, Tensor) and tensor.ndim else -1 for tensor in cast(Any, data)}
        if len(data) < 2 or len(lengths) != 1 or min(lengths) < 1:
            shown = [tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in cast(Any, data)]
            raise InvalidArgument(
                f"{field} is a tuple (inputs..., target) of tensors with one common first dimension",
                got=shown,
                remedy="Convert arrays with torch.as_tensor and pair every example with a target.",
            )
    elif not (isinstance(data, Dataset) and hasattr(data, "__len__") and len(cast(Any, data)) > 0):
        raise InvalidArgument(
            f"{field} is a tuple of tensors or a map-style torch Dataset with a length",
            got=type(data).__name__,
            remedy="Pass (x, y), or a Dataset whose items are tuples (inputs..., target).",
        )


def _last_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"
