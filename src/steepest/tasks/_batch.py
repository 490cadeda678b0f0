"""A batch of any structure: how the model is called with it, its target, its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from steepest.errors import TaskError

__all__ = ["Batch", "call", "check_batch", "inputs_of", "leaves", "mapped", "moved", "rows_of", "shown", "target_of"]

Batch = Tensor | Sequence[Any] | Mapping[str, Any]
"""A tensor; a tuple or list (inputs..., target); or a mapping, with which the model is called by keyword. Each part may
be a nested mixture of tensors. All have the examples along their first dimension."""


def call(model: nn.Module, batch: Any, *, whole: bool = False) -> Any:
    """Return the model's output: model(*inputs), model(**batch) for a mapping, or model(batch) for a tensor.

    Args:
        model: The model.
        batch: The batch.
        whole: Whether the model gets the target too, as one that returns its loss does.
    """
    inputs = inputs_of(batch, whole=whole)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def inputs_of(batch: Any, *, whole: bool = False) -> tuple[Any, ...] | dict[str, Any]:
    """Return what the model is called with: a tuple of arguments, or a dict of keyword arguments."""
    if isinstance(batch, Mapping):
        return dict(cast("Mapping[str, Any]", batch))
    if isinstance(batch, (tuple, list)):
        return tuple(cast("list[Any]", batch) if whole else cast("list[Any]", batch)[:-1])
    return (batch,)


def target_of(batch: Any) -> Any:
    """Return the last part of a tuple or list; a mapping or a tensor itself."""
    return batch[-1] if isinstance(batch, (tuple, list)) else batch


def mapped(function: Callable[[Any], Any], batch: Any) -> Any:
    """Return the batch with each leaf replaced by function(leaf); mappings become dicts."""
    if isinstance(batch, Mapping):
        return {key: mapped(function, each) for key, each in cast("Mapping[Any, Any]", batch).items()}
    if isinstance(batch, (tuple, list)):
        made = [mapped(function, each) for each in cast("list[Any]", batch)]
        return type(batch)(*made) if hasattr(batch, "_fields") else cast(Any, type(batch))(made)
    return function(batch)


def moved(batch: Any, device: torch.device | str) -> Any:
    """Return the batch with its tensors, and whatever else has `to`, on a device."""
    return mapped(lambda leaf: leaf.to(device) if _moves(leaf) else leaf, batch)


def leaves(batch: Any) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its place in the batch, as "[0]" or "['mask']"."""
    items: Any = ()
    if isinstance(batch, Mapping):
        items = cast("Mapping[Any, Any]", batch).items()
    elif isinstance(batch, (tuple, list)):
        items = enumerate(cast("list[Any]", batch))
    else:
        yield "", batch
    for key, each in items:
        for place, leaf in leaves(each):
            yield f"[{key!r}]{place}", leaf


def rows_of(batch: Any) -> int:
    """Return the number of examples: the length of the target's first tensor, or else of the batch's; at least 1."""
    for part in (target_of(batch), batch):
        for _, leaf in leaves(part):
            if isinstance(leaf, Tensor) and leaf.ndim:
                return max(1, len(leaf))
    return 1


def shown(batch: Any) -> str:
    """Return the shapes of a batch in words.

    >>> shown([torch.ones(5, 1), torch.ones(5)])
    '(5, 1), (5,)'
    >>> shown({"ids": torch.ones(5, 6), "labels": torch.ones(5)})
    'ids (5, 6), labels (5,)'
    """
    return ", ".join(_shown(place, leaf) for place, leaf in leaves(batch))


def _shown(place: str, leaf: Any) -> str:
    shape = str(tuple(leaf.shape)) if isinstance(leaf, Tensor) else type(leaf).__name__
    return f"{place[2:-2]} {shape}" if place.startswith("['") and place.count("[") == 1 else shape


def check_batch(field: str, batch: Any, *, any_parts: bool = False) -> None:
    """Check that a batch is one that a model can be called with.

    Args:
        field: Whose batch it is, "train" or "valid".
        batch: What the data gave.
        any_parts: Whether its parts need be no tensors, because a function of the user's own takes it.

    Raises:
        TaskError: If it is not.
    """
    if isinstance(batch, (tuple, list)) and len(cast(Any, batch)) < 2 and not any_parts:
        raise TaskError(
            f"a batch of {field} that is a tuple must have inputs and a target, (inputs..., target)",
            got=f"{len(cast(Any, batch))} part",
            remedy="Return (x, y) from the Dataset; or x alone, if the target of the loss is x itself.",
        )
    if isinstance(batch, Mapping) and (other := [key for key in cast(Any, batch) if not isinstance(key, str)]):
        raise TaskError(
            f"a batch of {field} that is a mapping must have names as keys, with which the model is called",
            got=other[0],
            remedy="Return a dict of names from the Dataset, or from collate.",
        )
    if any_parts:
        return
    if not any(_moves(leaf) for _, leaf in leaves(batch)):
        raise TaskError(
            f"a batch of {field} must be a tensor, a tuple (inputs..., target) of tensors, or a dict of tensors",
            got=type(batch).__name__,
            remedy="Return one from the Dataset, from collate or from the DataLoader.",
        )
    for place, leaf in leaves(batch):
        if not (_moves(leaf) or leaf is None):
            raise TaskError(
                f"the items of {field} must be tensors, arrays or numbers, or tuples and dicts of them",
                got=f"{type(leaf).__name__} at batch{place}",
                remedy="Convert or leave it out in the Dataset, or make the batch with collate=.",
            )


def _moves(leaf: Any) -> bool:
    try:
        return isinstance(leaf, Tensor) or (callable(getattr(leaf, "to", None)) and not isinstance(leaf, type))
    except Exception:  # an object's own __getattr__ may raise anything
        return False
