"""Inputs and numbers, validated and converted to tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steepest.errors import InvalidArgument

__all__ = ["Inputs", "as_inputs", "as_numbers", "converted", "shown", "take"]

Inputs = tuple[Tensor, ...]


def as_inputs(name: str, x: Any) -> Inputs:
    """Return the inputs as a tuple of tensors with one first dimension, cut off from any graph.

    Raises:
        InvalidArgument: If they are something else.
    """
    inputs = (x,) if isinstance(x, Tensor) else x
    listed = isinstance(inputs, (list, tuple))
    if (
        not listed
        or not inputs
        or not all(map(_has_examples, inputs))
        or len({len(t) for t in inputs}) != 1
        or not len(inputs[0])
    ):
        raise InvalidArgument(
            f"{name} must be a dense tensor whose first dimension counts the examples, or a tuple of such tensors",
            got=[shown(t) for t in inputs] if listed else x,
            remedy="At least one example; pass several inputs as a tuple.",
        )
    if any(t.is_inference() for t in inputs):
        with torch.inference_mode(False):
            return tuple(t.clone() for t in inputs)
    return tuple(t.detach() for t in inputs)


def _has_examples(t: object) -> bool:
    return isinstance(t, Tensor) and t.layout == torch.strided and not t.is_nested and not t.is_meta and t.ndim > 0


def as_numbers(values: Any, device: torch.device) -> Tensor | None:
    """Return finite real numbers as a flat tensor in float64, or None of anything else."""
    try:
        found = values if isinstance(values, Tensor) else torch.as_tensor(values)
        if found.is_complex() or found.dtype == torch.bool or (found.ndim == 0 and not isinstance(values, Tensor)):
            return None
        if not isinstance(values, Tensor):
            found = torch.as_tensor(values, dtype=torch.float64)
        flat = found.detach().to(device, torch.float64).flatten()
        return flat if bool(flat.isfinite().all()) else None
    except Exception:  # what is passed may raise anything
        return None


def shown(t: object) -> object:
    """Describe an input that is refused."""
    if not isinstance(t, Tensor):
        return type(t).__name__
    if t.is_nested or t.layout != torch.strided:
        return "a nested tensor" if t.is_nested else str(t.layout)
    return f"{tuple(t.shape)} on device meta" if t.is_meta else tuple(t.shape)


def converted(inputs: Inputs, dtype: torch.dtype | None) -> Inputs:
    """Return the inputs with floating-point ones in that precision; None leaves all as they are."""
    return tuple(t.to(dtype) if dtype is not None and t.is_floating_point() else t for t in inputs)


def take(inputs: Inputs, some: slice | Tensor) -> Inputs:
    """Return some of the examples."""
    return tuple(t[some] for t in inputs)
