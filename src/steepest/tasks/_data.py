"""Data as tensors or as a Dataset: their length, and examples by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from steepest.errors import InvalidArgument, TaskError

__all__ = ["Batch", "Data", "check_data", "length", "rows", "take"]

Batch = Sequence[Tensor]
"""Tensors with a common first dimension: the model's inputs, and last the target."""

Data = Dataset[Any] | tuple[Tensor, ...]
"""Tensors (inputs..., target), or a map-style Dataset of such tuples."""


def length(data: Data) -> int:
    """Return the number of examples."""
    return len(data[0]) if isinstance(data, tuple) else len(cast(Any, data))


def take(data: Data, indices: Tensor) -> Batch:
    """Return the examples with these indices.

    Raises:
        TaskError: If a Dataset's items are no tuples (inputs..., target).
    """
    if isinstance(data, tuple):
        return [tensor[indices] for tensor in data]
    if type(data) is TensorDataset:  # a subclass may do more than index
        return list(data[indices])
    batch: Any = default_collate([data[int(i)] for i in indices])
    if not isinstance(batch, (tuple, list)) or len(cast(Any, batch)) < 2:
        raise TaskError(
            "a Dataset's items must be tuples (inputs..., target)",
            got=type(data[int(indices[0])]).__name__,
            remedy="Return (x, y) from its __getitem__.",
        )
    if wrong := [part for part in cast(Any, batch) if not isinstance(part, Tensor)]:
        raise TaskError(
            "a Dataset's items must be tuples of tensors, arrays or numbers",
            got=type(wrong[0]).__name__,
            remedy="Return (x, y) from its __getitem__, each as one tensor.",
        )
    return cast(Batch, batch)


def rows(data: Data, start: int, stop: int) -> Batch:
    """Return the examples from start to before stop."""
    return [t[start:stop] for t in data] if isinstance(data, tuple) else take(data, torch.arange(start, stop))


def check_data(field: str, data: Any) -> None:
    """Check that data are a tuple of tensors or a map-style Dataset.

    Raises:
        InvalidArgument: If they are neither.
    """
    if isinstance(data, tuple):
        lengths = {len(tensor) if isinstance(tensor, Tensor) and tensor.ndim else -1 for tensor in cast(Any, data)}
        if len(data) < 2 or len(lengths) != 1 or min(lengths) < 1:
            shown = [tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in cast(Any, data)]
            raise InvalidArgument(
                f"{field} must be a tuple (inputs..., target) of tensors with one common first dimension",
                got=shown,
                remedy="Convert arrays with torch.as_tensor and pair every example with a target.",
            )
        if other := [t for t in cast("tuple[Tensor, ...]", data) if t.is_meta or t.layout != torch.strided]:
            raise InvalidArgument(
                f"{field} must be dense tensors with data",
                got="device meta" if other[0].is_meta else other[0].layout,
                remedy="Try .to_dense(), or a Dataset.",
            )
    elif not (isinstance(data, Dataset) and hasattr(data, "__len__") and len(cast(Any, data)) > 0):
        raise InvalidArgument(
            f"{field} must be a tuple of tensors or a map-style torch Dataset with a length",
            got=type(data).__name__,
            remedy="Pass (x, y), or a Dataset whose items are tuples (inputs..., target); of a DataLoader .dataset.",
        )
