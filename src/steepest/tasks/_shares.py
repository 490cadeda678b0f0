"""The share of each worker in the batches of a task."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from steepest.tasks._batch import Batch, mapped, rows_of

if TYPE_CHECKING:
    from steepest.tasks._task import Task

__all__ = ["Shares", "bounds"]


def bounds(examples: int, rank: int, size: int) -> tuple[int, int]:
    """Return where the share of a worker begins and ends; shares differ by at most one example.

    >>> [bounds(10, rank, 4) for rank in range(4)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    return examples * rank // size, examples * (rank + 1) // size


class Shares:
    """The training batches of a task, of which each worker takes its part.

    The batch of a step is the one that `task.batches` gives, whatever the number of workers: it depends on the seed
    and the step alone. So a step can be repeated by other workers, and each example of a batch is counted once.

    Examples that have numbers are loaded by the worker that takes them. Other data are read in whole by each worker,
    which then keeps its rows.

    Args:
        task: The task.
        seed: The seed of the order.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self._source, self._batch_size, self._seed = task._source("train"), task.batch_size, seed
        self._whole: Iterator[Any] | None = None
        self._step, self._batch = -1, None  # the whole batch at hand
        self._part: tuple[int, int, Iterator[Any]] | None = None  # rank, size, and its batches
        self._next = 0  # the step of the next one

    def at(self, step: int, rank: int, size: int) -> tuple[Batch | None, int, int]:
        """Return a worker's part of the batch of a step, its number of examples, and that of the whole batch.

        A part without examples is None.
        """
        if self._source.size is None:
            batch = self._whole_batch(step)
            examples = rows_of(batch)
            low, high = bounds(examples, rank, size)
            return (_rows(batch, low, high, examples) if high > low else None), high - low, examples
        low, high = bounds(self._batch_size, rank, size)
        if high == low:
            return None, 0, self._batch_size
        if self._part is None or self._part[:2] != (rank, size) or self._next != step:
            self._part = rank, size, self._numbered(step, slice(low, high), rank)
        self._next = step + 1
        return next(self._part[2]), high - low, self._batch_size

    def _numbered(self, step: int, part: slice, rank: int) -> Iterator[Any]:
        numbers = self._source.shuffled(self._generator(), self._batch_size)
        mine: Iterator[Tensor] = (each[part] for each in itertools.islice(numbers, step, None))
        return self._source.numbered(mine, self._seed if rank == 0 else (self._seed << 20) + rank)

    def _whole_batch(self, step: int) -> Any:
        if self._whole is None or step < self._step:
            self.close()
            self._whole, self._step = self._source.batches(self._generator(), self._batch_size), -1
        while self._step < step:
            self._batch = next(self._whole)
            self._step += 1
        return self._batch

    def _generator(self) -> Generator:
        return torch.Generator().manual_seed(self._seed)

    def close(self) -> None:
        """End processes that load batches."""
        for each in (self._whole, None if self._part is None else self._part[2]):
            close = getattr(each, "close", None)
            if close is not None:
                close()
        self._whole = self._part = None


def _rows(batch: Any, low: int, high: int, examples: int) -> Any:
    """Return some rows of a batch; what has not one row per example stays whole."""

    def some(leaf: Any) -> Any:
        return leaf[low:high] if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == examples else leaf

    return mapped(some, batch)
