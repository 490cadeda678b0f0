"""The definition of a task."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import Dataset

from steepest._check import at_least, boolean, function, in_range, instance
from steepest._check import device as check_device
from steepest._check import generator as check_generator
from steepest._contained import contained
from steepest._frozen import frozen_names
from steepest._random import seeded
from steepest.errors import InvalidArgument, TaskError
from steepest.tasks._batch import Batch, check_batch, leaves
from steepest.tasks._checking import check_task
from steepest.tasks._evaluation import evaluate
from steepest.tasks._metric import Metric, metrics_of, ranked_by
from steepest.tasks._objective import Objective
from steepest.tasks._one_run import for_one_run
from steepest.tasks._sources.choose import Data, source_of
from steepest.tasks._sources.examples import Examples
from steepest.tasks._sources.loader import Batches
from steepest.tasks._sources.source import Source

__all__ = ["Task"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its data, its loss and its metrics.

    A batch is a tuple (inputs..., target), for which the loss is loss(model(*inputs), target); or a mapping, for which
    it is loss(model(**batch), batch); or a tensor, for which it is loss(model(batch), batch). Inputs and target may be
    nested tuples, lists and dicts of tensors. The first dimension of all tensors is that of the examples.

    Args:
        model: A function without arguments that returns a new module. Random numbers that it draws from torch's
            global generator are seeded by the trial, and the generator is restored afterwards.
        loss: loss(output, target) -> a scalar, the mean over the batch. Without it (and batch_loss) the model is
            called with the whole batch, and returns its loss as output.loss or output["loss"].
        train: One of these:
            - Tensors in the structure of a batch, with the examples along the first dimension.
            - A map-style `Dataset`, or anything else with a length and items by number.
            - An iterable-style `Dataset`, a stream: a run reads it from its start, and again when it ends.
            - A `DataLoader`, which has its own batches and order.
            - A function that returns a `DataLoader`, called once per run.
        valid: The same, for validation. A stream must end.
        metric: metric(output, target) -> a number, of all validation outputs and targets together, on the CPU; or an
            object with update(output, target) and compute(), as in torchmetrics, which is updated batch by batch on
            their device (each evaluation uses a copy, reset if it has `reset`); or a `Metric`, which says whether
            higher is better; or several of them in a mapping by name. For a mapping or a tensor as batch, the target
            is the batch.
        batch_loss: batch_loss(model, batch) -> a scalar, instead of loss.
        valid_loss: A loss(output, target) of its own for validation.
        rank_by: What alternatives are ranked by: "loss" (of validation), "metric" (the first one) or a metric's name;
            its direction must be known (`Metric.higher_is_better`), or given as "max:NAME" or "min:NAME".
        batch_size: Examples per training step, drawn without replacement within an epoch, 1 to len(train); of a stream
            the next ones. A `DataLoader` has its own.
        eval_batch_size: Rows with which the model is called in validation, at least 1; None for batch_size.
        collate: For Datasets: collate(items) -> a batch, for example one that pads texts; None for torch's own.
        num_workers: For Datasets: processes that load batches; 0 for the process that trains. It does not change the
            batches, unless items are random. A stream is read by at most one.
        clip_norm: The L2 norm, > 0, to which the gradient of all parameters together is scaled down; None for no bound.
        steps: Training steps per run, unless the trial sets another number.
        validations: The largest number of validations after the start, evenly spaced and including the last step; or
            the steps after which to validate, to which the last step is added.
        name: Its name in reports.
        init: The name of a trial's default init; "default" leaves the model as `model` made it.
        frozen: Parameters that are not trained: their names, names of modules, or shell-style patterns. They need no
            gradient, no init changes them, and a run that changes one raises an error.

    Raises:
        InvalidArgument: If a number is outside its range, or the data are not of these types.
        UnknownName: If there is no metric to rank by.

    The random numbers that data draw from global generators (torch's, numpy's and Python's) are seeded for each run,
    apart from those of the model, so that runs of one seed see the same batches whatever the optimizer.

    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> task = Task(model=lambda: nn.Linear(1, 1), loss=nn.functional.mse_loss,
    ...             train=(x, 2 * x), valid=(x, 2 * x), batch_size=16, steps=100)
    >>> [tuple(tensor.shape) for tensor in next(task.batches(torch.Generator()))]
    [(16, 1), (16, 1)]
    >>> by_name = Task(model=lambda: nn.Linear(1, 1), loss=lambda output, batch: (output - batch["input"]).abs().mean(),
    ...                train={"input": x}, valid={"input": x}, batch_size=16)
    >>> round(by_name.evaluate(by_name.build(0))[0], 3)
    0.652
    """

    model: Callable[[], nn.Module]
    loss: Callable[[Any, Any], Tensor] | None = None
    train: Data
    valid: Data
    metric: Any = None
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None
    valid_loss: Callable[[Any, Any], Tensor] | None = None
    rank_by: str = "loss"
    batch_size: int = 100
    eval_batch_size: int | None = None
    collate: Callable[[list[Any]], Any] | None = None
    num_workers: int = 0
    clip_norm: float | None = None
    steps: int = 300
    validations: int | Sequence[int] = 30
    name: str = "task"
    init: str = "default"
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        function("a task's model", self.model)
        for field in ("loss", "batch_loss", "valid_loss", "collate"):
            if getattr(self, field) is not None:
                function(f"a task's {field}", getattr(self, field))
        if self.loss is not None and self.batch_loss is not None:
            raise InvalidArgument(
                "a task must have loss or batch_loss, not both", got="both", remedy="For validation, pass valid_loss."
            )
        ranked_by(self.rank_by, self.metrics)
        at_least("num_workers", self.num_workers, 0)
        for field in ("train", "valid"):
            with contained(f"the data {field}"):
                self._source(field)
        self._check_options_of_datasets()
        at_least("batch_size", self.batch_size, 1, most=self.examples, remedy="Choose a smaller batch.")
        if self.eval_batch_size is not None:
            at_least("eval_batch_size", self.eval_batch_size, 1)
        if self.clip_norm is not None:
            in_range("clip_norm", self.clip_norm, "(0, inf)")
        at_least("steps", self.steps, 1)
        self._check_validations()
        if not instance("a task's name", self.name, str, "a string"):
            raise InvalidArgument("a task's name must not be empty", got=self.name, remedy='Pass name="mine".')
        if isinstance(self.init, type) or not callable(self.init):  # a scheme is a function
            instance("a task's init", self.init, str, "the name of an init", remedy='Pass for example init="he".')
        names = (self.frozen,) if isinstance(self.frozen, str) else self.frozen
        for name in instance("frozen", names, (tuple, list), "a tuple of names"):
            instance("frozen", name, str, "a tuple of names", remedy='Pass for example frozen=("backbone",).')
        object.__setattr__(self, "frozen", tuple(names))

    def _check_options_of_datasets(self) -> None:
        given = [name for name, value in (("collate", self.collate), ("num_workers", self.num_workers)) if value]
        if given and not any(map(self._takes_options, ("train", "valid"))):
            raise InvalidArgument(
                f"{given[0]} must be left out where neither train nor valid is a Dataset",
                got=getattr(self, given[0]),
                remedy="Tensors need none, and a DataLoader has its own.",
            )

    def _takes_options(self, field: str) -> bool:
        return isinstance(getattr(self, field), (Dataset, Batches)) or isinstance(self._source(field), Examples)

    def _check_validations(self) -> None:
        if isinstance(self.validations, (tuple, list)):
            for step in self.validations:
                at_least("validations after the start", step, 1, remedy="The start is validated anyway.")
        else:
            at_least("validations", self.validations, 1, remedy="Pass a number, or a list of steps.")

    def _source(self, field: str) -> Source:
        return source_of(field, getattr(self, field), self.collate, self.num_workers)

    @property
    def _objective(self) -> Objective:
        return Objective(self.loss, self.batch_loss, self.valid_loss)

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
        """Return an infinite iterator of training batches, which depends on the generator alone.

        Each epoch of tensors and of a map-style Dataset has a new order and no incomplete last batch.

        Raises:
            InvalidArgument: If generator is no torch.Generator.
        """
        return self._source("train").batches(check_generator("generator", generator), self.batch_size)

    @property
    def examples(self) -> int | None:
        """The number of training examples; None for a stream, a DataLoader, and a function."""
        return self._source("train").size

    def take(self, indices: Tensor) -> Batch:
        """Return the training examples with these indices, a vector of whole numbers from 0 to examples - 1.

        Raises:
            InvalidArgument: If indices is something else, or examples have no numbers.
        """
        source = self._source("train")
        size = source.size
        rule = "a vector of whole numbers" if size is None else f"a vector of whole numbers from 0 to {size - 1}"
        whole = instance("indices", indices, Tensor, rule).dtype in (torch.int64, torch.int32) and not indices.is_meta
        vector = whole and indices.ndim == 1 and len(indices) > 0
        if not vector or (size is not None and not 0 <= int(indices.min()) <= int(indices.max()) < size):
            raise InvalidArgument(f"indices must be {rule}", got=indices, remedy="Try torch.arange(10).")
        return source.take(indices)

    def training_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of a batch.

        Raises:
            InvalidArgument: If model is no module.
            TaskError: If batch is no tensor, tuple (inputs..., target) or mapping, or the model returns no loss where
                the task has none.
        """
        instance("model", model, nn.Module, "a torch.nn.Module")
        if self.batch_loss is None:
            check_batch("train", batch)
        return self._objective.training(model, batch)

    def validation_batches(self) -> Iterator[Batch]:
        """Return an iterator over the validation data: in their order, `eval_batch_size` rows at a time."""
        return self._source("valid").validation(self.eval_batch_size or self.batch_size)

    def evaluate(self, model: nn.Module, device: torch.device | str = "cpu") -> tuple[float, float]:
        """Return the mean validation loss and the first metric (nan without one); see `validate`."""
        loss, metrics = self.validate(model, device)
        return loss, next(iter(metrics.values()), math.nan)

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device | str = "cpu") -> tuple[float, dict[str, float]]:
        """Return the mean validation loss and the value of each metric by its name, in evaluation mode.

        Raises:
            InvalidArgument: If model is no module, or torch cannot use the device.
            TaskError: If the loss is no scalar tensor, the outputs cannot be concatenated, or a metric is no number.
        """
        check_device("device", device)
        training = instance("model", model, nn.Module, "a torch.nn.Module").training
        model.eval()
        try:
            return evaluate(model, self._objective, self.metrics, self.validation_batches(), device)
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

    def check(self, *, needs_gradient: bool = True) -> None:
        """Run the model once on a batch and on the validation data, so that errors show before any training.

        Args:
            needs_gradient: Whether the loss must have a gradient; a source of `steepest.estimators` that only evaluates
                it needs none.

        Raises:
            TaskError: If the model, the data, the loss or a metric fails or tries to end the program; if the loss is
                not a finite scalar that depends on the model; if outputs and targets are broadcast against each other;
                if the validation loss or a metric is no finite number; if two models share trained parameters; if
                batches are no tensors; if a DataLoader or a stream is empty, is used up, or ends before its length; if
                validation data have no end; if the direction of the metric to rank by is not known.
            UnknownName: If no parameter or module has a name in `frozen`.
            InvalidArgument: If needs_gradient is neither True nor False.
        """
        boolean("needs_gradient", needs_gradient)
        with contained("a task's model, data, loss and metric"):
            check_task(for_one_run(self, 0), needs_gradient=needs_gradient)

    def fingerprint(self) -> str:
        """Return a digest of the data, the batch size and the shapes of the model's parameters."""
        digest = hashlib.sha256(f"{self.name} {self.batch_size}".encode())
        for name, parameter in self.build(seed=0).named_parameters():
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        for field in ("train", "valid"):
            source = self._source(field)
            digest.update(str(source.size).encode())
            for _, leaf in leaves(source.sample()):
                if not isinstance(leaf, Tensor):
                    digest.update(repr(leaf).encode())
                    continue
                content = leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                digest.update(f"{tuple(leaf.shape)} {leaf.dtype}".encode() + content.tobytes())
        return digest.hexdigest()[:16]
