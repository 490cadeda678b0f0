"""Data that are tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Generator, Tensor

from steepest.errors import InvalidArgument
from steepest.tasks._batch import leaves, mapped
from steepest.tasks._sources.source import Source

__all__ = ["Tensors"]


class Tensors(Source):
    """A tensor, or a nested mixture of tensors, with the examples along the first dimension.

    Args:
        field: "train" or "valid".
        data: The tensors.

    Raises:
        InvalidArgument: If a part is no tensor, their first dimensions differ or are 0, or some have no data.
    """

    def __init__(self, field: str, data: Any) -> None:
        super().__init__(field)
        self._data: Any = data
        found = [leaf for _, leaf in leaves(data)]
        lengths = {len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else -1 for leaf in found}
        lone = isinstance(data, (tuple, list)) and len(cast(Any, data)) < 2
        if lone or len(lengths) != 1 or min(lengths) < 1:
            shapes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in found]
            raise InvalidArgument(
                f"{field} must be a tuple (inputs..., target) of tensors with one common first dimension",
                got=shapes,
                remedy="Convert arrays with torch.as_tensor and pair every example with a target; a tensor alone is "
                "its own target.",
            )
        self._size = lengths.pop()
        if other := [leaf for leaf in found if leaf.is_meta or leaf.layout != torch.strided]:
            raise InvalidArgument(
                f"{field} must be dense tensors with data",
                got="device meta" if other[0].is_meta else other[0].layout,
                remedy="Try .to_dense(), or a Dataset.",
            )
        self._is_flat = isinstance(data, tuple) and all(isinstance(part, Tensor) for part in cast(Any, data))

    @property
    def size(self) -> int:
        """The number of examples."""
        return self._size

    def batches(self, generator: Generator, batch_size: int) -> Iterator[Any]:
        """Yield training batches without end."""
        for indices in self.shuffled(generator, batch_size):
            yield self.take(indices)

    def validation(self, batch_size: int) -> Iterator[Any]:
        """Yield each example once, in order."""
        for start in range(0, self.size, batch_size):
            yield self._at(slice(start, min(start + batch_size, self.size)))

    def take(self, indices: Tensor) -> Any:
        """Return a batch of the examples with these numbers."""
        return self._at(indices)

    def sample(self) -> Any:
        """Return all of the data."""
        return self._data

    def _at(self, where: Tensor | slice) -> Any:
        if self._is_flat:
            return [tensor[where] for tensor in self._data]
        return mapped(lambda tensor: tensor[where], self._data)
