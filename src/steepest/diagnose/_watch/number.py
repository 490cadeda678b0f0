"""Losses and learning rates: numbers, or tensors that stay on their device until they are read."""

from __future__ import annotations

from torch import Tensor

__all__ = ["Number", "kept", "number"]

Number = float | Tensor


def number(value: Number) -> float:
    """Return a number as a float; of a tensor this waits for its device."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def kept(value: Number) -> Number:
    """Return a number's present value, independent of later changes of its tensor."""
    return value.detach().clone() if isinstance(value, Tensor) else value
