"""Data that are a map-style Dataset: examples by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate

from steepest.tasks._sources.collate import Collate, Failure, unfailed
from steepest.tasks._sources.noise import Noise
from steepest.tasks._sources.source import Source

__all__ = ["Examples"]


class Examples(Source):
    """A map-style Dataset, or anything else with a length and examples by number.

    Args:
        field: "train" or "valid".
        data: The Dataset.
        collate: collate(items) -> the batch; None for torch's own.
        num_workers: Processes that load batches, each while others are trained with; 0 for this one.
    """

    def __init__(self, field: str, data: Any, collate: Callable[[list[Any]], Any] | None, num_workers: int) -> None:
        super().__init__(field)
        self._fetch = _Fetch(data, Collate(field, collate or default_collate, is_own=collate is not None))
        self._num_workers = num_workers
        self._size = len(data)

    @property
    def size(self) -> int:
        """The number of examples."""
        return self._size

    def batches(self, generator: Generator, batch_size: int) -> Iterator[Any]:
        """Return an iterator of training batches without end."""
        return self._loaded(self.shuffled(generator, batch_size), Noise(generator.initial_seed()))

    def validation(self, batch_size: int) -> Iterator[Any]:
        """Return an iterator over each example once, in order."""
        return self._loaded(self.in_order(batch_size), Noise(0))

    def take(self, indices: Tensor) -> Any:
        """Return a batch of the examples with these numbers."""
        return self._fetch(indices.tolist())

    def numbered(self, numbers: Iterable[Tensor], seed: int) -> Iterator[Any]:
        """Return an iterator over the batch of each vector of numbers, loaded as training batches are."""
        return self._loaded(numbers, Noise(seed))

    def sample(self) -> Any:
        """Return the first and the last example: all may be too many to read."""
        return self.take(torch.tensor([0, self._size - 1]))

    def _loaded(self, numbers: Iterable[Tensor], noise: Noise) -> Iterator[Any]:
        if self._num_workers == 0:
            for indices in numbers:
                with noise:
                    batch = self.take(indices)
                yield batch
            return
        loader: DataLoader[Any] = DataLoader(
            cast(Any, self._fetch),
            sampler=_Lists(numbers),
            batch_size=None,
            collate_fn=_same,
            num_workers=self._num_workers,
            generator=torch.Generator().manual_seed(noise.seed),
        )
        for batch in loader:
            yield unfailed(batch)


class _Fetch:
    """A Dataset whose items are batches, by the list of their examples' numbers."""

    def __init__(self, data: Any, collate: Collate) -> None:
        self._data, self._collate = data, collate

    def __call__(self, numbers: list[int]) -> Any:
        return self._collate([self._data[number] for number in numbers])

    def __getitem__(self, numbers: list[int]) -> Any:
        """Return a batch, or how it failed: a worker process keeps too little of an exception."""
        try:
            return self(numbers)
        except Exception as error:
            return Failure.of(error)


class _Lists:
    """The numbers of each batch as a list."""

    def __init__(self, numbers: Iterable[Tensor]) -> None:
        self._numbers = numbers

    def __iter__(self) -> Iterator[list[int]]:
        return (indices.tolist() for indices in self._numbers)


def _same(batch: Any) -> Any:
    return batch
