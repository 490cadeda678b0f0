"""What a task asks of its data, whatever their kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.errors import InvalidArgument

__all__ = ["Source"]

_SAMPLE = 8


class Source(ABC):
    """The data for training or for validation.

    A subclass gives training batches without end, and one pass of validation batches. Where its examples have numbers,
    it says how many there are, and takes some by number.

    Args:
        field: Whose data they are in messages, "train" or "valid".
    """

    def __init__(self, field: str) -> None:
        self.field = field

    @property
    def size(self) -> int | None:
        """The number of examples, None where they have no numbers."""
        return None

    @abstractmethod
    def batches(self, generator: Generator, batch_size: int) -> Iterator[Any]:
        """Return an iterator of training batches without end; it depends on the generator alone."""

    @abstractmethod
    def validation(self, batch_size: int) -> Iterator[Any]:
        """Yield each example once, in the same batches each time."""

    def take(self, indices: Tensor) -> Any:  # noqa: ARG002
        """Return a batch of the examples with these numbers.

        Raises:
            InvalidArgument: If examples have no numbers.
        """
        raise InvalidArgument(
            f"examples can only be taken from tensors and map-style Datasets, and {self.field} is another kind of data",
            got=type(self).__name__.lower(),
            remedy="Take batches, from task.batches(generator).",
        )

    def numbered(self, numbers: Iterable[Tensor], seed: int) -> Iterator[Any]:  # noqa: ARG002
        """Yield the batch of each vector of numbers; what the data draw at random depends on the seed alone."""
        return map(self.take, numbers)

    def sample(self) -> Any:
        """Return some of the data, by which a changed version can be recognised: the first validation batch."""
        return next(iter(self.validation(_SAMPLE)))

    def shuffled(self, generator: Generator, batch_size: int) -> Iterator[Tensor]:
        """Yield the numbers of the examples of each batch: a new order per epoch, no incomplete last batch."""
        size = self.size
        assert size is not None
        while True:
            order = torch.randperm(size, generator=generator)
            for start in range(0, size - batch_size + 1, batch_size):
                yield order[start : start + batch_size]

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the numbers of the examples of each batch, in order."""
        size = self.size
        assert size is not None
        for start in range(0, size, batch_size):
            yield torch.arange(start, min(start + batch_size, size))
