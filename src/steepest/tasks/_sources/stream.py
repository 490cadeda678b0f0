"""Data that are an iterable-style Dataset: a stream of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator
from torch.utils.data import DataLoader, default_collate

from steepest.tasks._sources.collate import Collate
from steepest.tasks._sources.loader import Loader
from steepest.tasks._sources.source import Source

__all__ = ["Stream"]


class Stream(Source):
    """An iterable-style Dataset, read in its own order, again from its start when it ends.

    Args:
        field: "train" or "valid".
        data: The Dataset.
        collate: collate(items) -> the batch; None for torch's own.
        num_workers: 0 reads in this process, more in one other: several would each give all examples, or their shares
            in an order that depends on their number.
    """

    def __init__(self, field: str, data: Any, collate: Callable[[list[Any]], Any] | None, num_workers: int) -> None:
        super().__init__(field)
        self._data, self._num_workers = data, min(num_workers, 1)
        self._collate = Collate(field, collate or default_collate, is_own=collate is not None)

    def batches(self, generator: Generator, batch_size: int) -> Iterator[Any]:
        """Return an iterator of batches, pass after pass, no incomplete ones."""
        return self._loader(batch_size, drop_last=True).batches(generator, batch_size)

    def validation(self, batch_size: int) -> Iterator[Any]:
        """Return an iterator over the batches of one pass."""
        return self._loader(batch_size, drop_last=False).validation(batch_size)

    def _loader(self, batch_size: int, *, drop_last: bool) -> Loader:
        loader: DataLoader[Any] = DataLoader(
            self._data,
            batch_size=batch_size,
            collate_fn=self._collate,
            drop_last=drop_last,
            num_workers=self._num_workers,
            generator=torch.Generator(),
        )
        return Loader(self.field, loader, "stream")
