"""The first step of an alternative with three seeds, which shows the effect of code and data."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import torch
from torch.utils.data import Subset, TensorDataset

from steepest.compare._design import Cell, Run
from steepest.compare._run import RunContext, execute
from steepest.errors import TaskError
from steepest.tasks import Task
from steepest.tasks._batch import mapped
from steepest.tasks._sources.loader import Batches
from steepest.tasks._sources.tensors import Tensors
from steepest.train import History

__all__ = ["probe"]

_SEEDS = 3


def probe(context: RunContext, cell: Cell, grid_index: int) -> dict[str, float]:
    """Return losses and metrics at the start and after one step, with each of three seeds, by name.

    The step is trained as in any run, at the learning rate of the grid index. It is validated on as many examples as a
    training batch holds, spread over the validation data; on all of them if the metric fails on fewer.

    Raises:
        TaskError: If the task's own code fails.
    """
    assert isinstance(context.task, Task)  # a program is not run for its identity
    one_step = replace(context, steps=1, warmup=0)
    small = replace(one_step, task=_with_few_examples(context.task))
    found: dict[str, float] = {}
    for seed in range(_SEEDS):
        run = Run(cell, grid_index, seed)
        with warnings.catch_warnings(action="ignore"):  # the runs issue them too
            try:
                history = execute(small, run)
            except TaskError:  # an AUC needs examples of both classes
                history = execute(one_step, run)
        found.update({f"{name} (seed {seed})": number for name, number in _numbers(history).items()})
    return found


def _numbers(history: History) -> dict[str, float]:
    curves = {"the training loss": history.train_loss[:1], "the validation loss": history.valid_loss}
    curves |= history.valid_metrics
    found = {f"{name} at the start": float(curve[0]) for name, curve in curves.items() if curve}
    return found | {f"{name} after one step": float(curve[-1]) for name, curve in curves.items() if len(curve) > 1}


def _with_few_examples(task: Task) -> Task:
    valid, source = task.valid, task._source("valid")
    if source.size is None:
        return replace(task, valid=Batches(list(itertools.islice(task.validation_batches(), 1))))
    few = torch.linspace(0, source.size - 1, min(task.batch_size, source.size)).long()
    if isinstance(source, Tensors) and not isinstance(valid, TensorDataset):
        return replace(task, valid=mapped(lambda tensor: tensor[few], valid))
    return replace(task, valid=Subset(valid, few.tolist()))
