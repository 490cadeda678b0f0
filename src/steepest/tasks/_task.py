"""The definition of a task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from steepest._check import at_least, function, instance
from steepest._check import device as check_device
from steepest._check import generator as check_generator
from steepest._contained import contained
from steepest._frozen import frozen_names
from steepest._random import seeded
from steepest.errors import InvalidArgument, TaskError
from steepest.tasks._checking import check_task
from steepest.tasks._data import Batch, Data, check_data, length, rows, take
from steepest.tasks._evaluation import evaluate
from steepest.tasks._metric import Metric, metrics_of
from steepest.tasks._own_loss import with_own_loss

__all__ = ["Task"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its data, its loss and its metric.

    A batch is a sequence of tensors with a common first dimension; the last is the target, and the others
    are the model's inputs: loss(model(*inputs), target).

    Args:
        model: A function without arguments that returns a new module. Random numbers that it draws from torch's
            global generator are seeded by the trial, and the generator is restored afterwards.
        loss: loss(output, target) -> a scalar, the mean over the batch.
        train: Tensors (inputs..., target), or a map-style `Dataset` of such tuples.
        valid: The same, for validation.
        metric: metric(output, target) -> a number, of all validation outputs and targets together, on the CPU; or an
            object with update(output, target) and compute(), as in torchmetrics, which is updated batch by batch on
            their device (each evaluation uses a copy, reset if it has `reset`); or a `Metric`, which says whether
            higher is better; or several of them in a mapping by name.
        batch_size: Examples per training step, drawn without replacement within an epoch, 1 to len(train).
        eval_batch_size: Rows with which the model is called in validation, at least 1; None for batch_size.
        steps: Training steps per run, unless the trial sets another number.
        name: Its name in reports.
        init: The name of a trial's default init; "default" leaves the model as `model` made it.
        frozen: Parameters that are not trained: their names, names of modules, or shell-style patterns. They need no
            gradient, no init changes them, and a run that changes one raises an error.

    Raises:
        InvalidArgument: If a number is outside its range, or the data are not of these types.

    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> task = Task(model=lambda: nn.Linear(1, 1), loss=nn.functional.mse_loss,
    ...             train=(x, 2 * x), valid=(x, 2 * x), batch_size=16, steps=100)
    >>> [tuple(tensor.shape) for tensor in next(task.batches(torch.Generator()))]
    [(16, 1), (16, 1)]
    """

    model: Callable[[], nn.Module]
    loss: Callable[[Any, Tensor], Tensor]
    train: Data
    valid: Data
    metric: Any = None
    batch_size: int = 100
    eval_batch_size: int | None = None
    steps: int = 300
    name: str = "task"
    init: str = "default"
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("model", "loss"):
            function(f"a task's {field}", getattr(self, field))
        metrics_of(self.metric)
        for field in ("train", "valid"):
            with contained(f"the data {field}"):
                check_data(field, getattr(self, field))
        at_least("batch_size", self.batch_size, 1, most=self.examples, remedy="Choose a smaller batch.")
        if self.eval_batch_size is not None:
            at_least("eval_batch_size", self.eval_batch_size, 1)
        at_least("steps", self.steps, 1)
        if not instance("a task's name", self.name, str, "a string"):
            raise InvalidArgument("a task's name must not be empty", got=self.name, remedy='Pass name="mine".')
        if isinstance(self.init, type) or not callable(self.init):  # a scheme is a function
            instance("a task's init", self.init, str, "the name of an init", remedy='Pass for example init="he".')
        names = (self.frozen,) if isinstance(self.frozen, str) else self.frozen
        for name in instance("frozen", names, (tuple, list), "a tuple of names"):
            instance("frozen", name, str, "a tuple of names", remedy='Pass for example frozen=("backbone",).')
        object.__setattr__(self, "frozen", tuple(names))

    def build(self, seed: int) -> nn.Module:
        """Return a new model whose frozen parameters need no gradient; torch's global generator is restored afterwards.

        Raises:
            TaskError: If the model's function does not return a module.
            UnknownName: If no parameter or module has a name in `frozen`.
        """
        seed = at_least("seed", seed, 0, most=2**63 - 1)
        with seeded(seed):
            model: Any = self.model()
        if not isinstance(model, nn.Module):
            raise TaskError(
                "a task's model function must return a torch.nn.Module",
                got=type(model).__name__,
                remedy="Return the module itself, for example model=lambda: Net().",
            )
        for name in frozen_names(model, self.frozen) if self.frozen else ():
            model.get_parameter(name).requires_grad_(False)
        return model

    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Return an infinite iterator of training batches: a new order in every epoch, no incomplete last batch.

        Raises:
            InvalidArgument: If generator is no torch.Generator.
        """
        return self._batches(check_generator("generator", generator))

    def _batches(self, generator: Generator) -> Iterator[Batch]:
        size = self.examples
        while True:
            order = torch.randperm(size, generator=generator)
            for start in range(0, size - self.batch_size + 1, self.batch_size):
                yield take(self.train, order[start : start + self.batch_size])

    @property
    def examples(self) -> int:
        """The number of training examples."""
        return length(self.train)

    def take(self, indices: Tensor) -> Batch:
        """Return the training examples with these indices, a vector of whole numbers from 0 to examples - 1.

        Raises:
            InvalidArgument: If indices is something else.
        """
        rule = f"a vector of whole numbers from 0 to {self.examples - 1}"
        whole = instance("indices", indices, Tensor, rule).dtype in (torch.int64, torch.int32) and not indices.is_meta
        vector = whole and indices.ndim == 1 and len(indices) > 0
        if not (vector and 0 <= int(indices.min()) <= int(indices.max()) < self.examples):
            raise InvalidArgument(f"indices must be {rule}", got=indices, remedy="Try torch.arange(10).")
        return take(self.train, indices)

    def training_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return loss(model(*inputs), target).

        Raises:
            InvalidArgument: If model is no module, or batch no sequence (inputs..., target).
        """
        instance("model", model, nn.Module, "a torch.nn.Module")
        if len(instance("batch", batch, (tuple, list), "a sequence (inputs..., target)")) < 2:
            raise InvalidArgument("batch must be a sequence (inputs..., target)", got=batch)
        for part in batch:
            instance("batch", part, Tensor, "a sequence of tensors (inputs..., target)")
        *inputs, target = batch
        return self.loss(model(*inputs), target)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the validation data in their order, `eval_batch_size` rows at a time."""
        size, step = length(self.valid), self.eval_batch_size or self.batch_size
        for start in range(0, size, step):
            yield rows(self.valid, start, min(start + step, size))

    @torch.no_grad()
    def evaluate(self, model: nn.Module, device: torch.device | str = "cpu") -> tuple[float, dict[str, float]]:
        """Return the mean validation loss and the value of each metric by its name, in evaluation mode.

        Raises:
            InvalidArgument: If model is no module, or torch cannot use the device.
            TaskError: If the loss is no scalar tensor, the outputs cannot be concatenated, or a metric is no number.
        """
        check_device("device", device)
        training = instance("model", model, nn.Module, "a torch.nn.Module").training
        model.eval()
        try:
            return evaluate(model, self.loss, self.metrics, self.validation_batches(), device)
        finally:
            model.train(training)

    @property
    def metric_name(self) -> str:
        """The name of the first metric, or "" without one."""
        return next(iter(self.metrics), "")

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics by name, in the order in which they were given."""
        return metrics_of(self.metric)

    def check(self) -> None:
        """Run the model once on a batch and on the validation data, so that errors show before any training.

        Raises:
            TaskError: If the model, the data, the loss or the metric fails or tries to end the program; if the loss is
                not a finite scalar that depends on the model; if outputs and targets are broadcast against each other;
                if the validation loss or metric is no finite number; if two models share trained parameters.
            UnknownName: If no parameter or module has a name in `frozen`.
        """
        with contained("a task's model, data, loss and metric"):
            check_task(with_own_loss(self))

    def fingerprint(self) -> str:
        """Return a digest of the data, the batch size and the shapes of the model's parameters."""
        digest = hashlib.sha256(f"{self.name} {self.batch_size}".encode())
        for name, parameter in self.build(seed=0).named_parameters():
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        for data in (self.train, self.valid):
            # For a Dataset, which may be too large to read, the length and the first and last example.
            tensors = data if isinstance(data, tuple) else take(data, torch.tensor([0, length(data) - 1]))
            digest.update(str(length(data)).encode())
            for tensor in tensors:
                content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + content.tobytes())
        return digest.hexdigest()[:16]
