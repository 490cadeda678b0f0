"""Which kind of data a user has given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from steepest.errors import InvalidArgument
from steepest.tasks._sources.examples import Examples
from steepest.tasks._sources.function import Function
from steepest.tasks._sources.loader import Batches, Loader
from steepest.tasks._sources.source import Source
from steepest.tasks._sources.stream import Stream
from steepest.tasks._sources.tensors import Tensors

__all__ = ["Data", "source_of"]

Data = Any
"""Tensors in any structure, a Dataset, a DataLoader, or a function that returns one."""


def source_of(
    field: str, data: Data, collate: Callable[[list[Any]], Any] | None = None, num_workers: int = 0
) -> Source:
    """Return the data as a source.

    Args:
        field: "train" or "valid".
        data: What the user has given.
        collate: For Datasets: collate(items) -> the batch; None for torch's own.
        num_workers: For Datasets: processes that load batches.

    Raises:
        InvalidArgument: If data are of no known kind, or empty.
    """
    if isinstance(data, (Tensor, tuple, Mapping)) or _is_list_of_tensors(data):
        return Tensors(field, data)
    if type(data) is TensorDataset and collate is None:  # a subclass may do more than index
        return Tensors(field, data.tensors)
    if isinstance(data, Batches):
        return Loader(field, data.batches)
    if isinstance(data, DataLoader):
        return Loader(field, data)
    if isinstance(data, IterableDataset):
        return Stream(field, data, collate, num_workers)
    if _is_numbered(data):
        return Examples(field, data, collate, num_workers)
    if callable(data) and not isinstance(data, (type, Dataset, nn.Module)):
        return Function(field, data)
    raise _refused(field, data)


def _is_list_of_tensors(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(part, Tensor) for part in cast(Any, data))


def _is_numbered(data: Any) -> bool:
    """Return whether it has items by number, and a length above 0."""
    if isinstance(data, (str, bytes, nn.Module)) or not callable(getattr(type(data), "__getitem__", None)):
        return False
    try:
        return len(data) > 0
    except Exception:  # an object's own __len__ may raise anything
        return False


def _refused(field: str, data: Any) -> InvalidArgument:
    return InvalidArgument(
        f"{field} must be tensors, a Dataset with a length above 0 or iterable-style, a DataLoader, or a function that "
        "returns one",
        got=type(data).__name__,
        remedy="Pass (x, y), or a Dataset whose items are tuples (inputs..., target) or dicts.",
    )
