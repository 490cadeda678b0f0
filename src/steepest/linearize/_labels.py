"""The parameter entry of each column of the feature matrix."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from steepest._check import instance
from steepest.errors import UnknownName

__all__ = ["Label", "Labels"]


@dataclass(frozen=True)
class Label:
    """One column: an entry of a parameter.

    Attributes:
        parameter: The parameter's name.
        index: The entry's flat index.
        layer: The module that holds the parameter, "" for the model itself.
    """

    parameter: str
    index: int
    layer: str


class Labels(Sequence[Label]):
    """A label for each column, made on access, so that a hundred million columns take no memory."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._names = list(parameters)
        self._starts = [0]
        for parameter in parameters.values():
            self._starts.append(self._starts[-1] + parameter.numel())

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Label: ...
    @overload
    def __getitem__(self, index: slice) -> list[Label]: ...
    def __getitem__(self, index: int | slice) -> Label | list[Label]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        which = bisect.bisect_right(self._starts, place) - 1
        name = self._names[which]
        return Label(name, place - self._starts[which], name.rpartition(".")[0])

    def __iter__(self) -> Iterator[Label]:
        for name, start, stop in zip(self._names, self._starts, self._starts[1:], strict=False):
            layer = name.rpartition(".")[0]
            yield from (Label(name, i, layer) for i in range(stop - start))

    def columns(self, parameter: str) -> slice:
        """Return the columns of a parameter.

        Raises:
            UnknownName: If there is no such trainable parameter.
        """
        instance("parameter", parameter, str, "a parameter's name")
        if parameter not in self._names:
            raise UnknownName.among("trainable parameter", parameter, self._names)
        which = self._names.index(parameter)
        return slice(self._starts[which], self._starts[which + 1])
