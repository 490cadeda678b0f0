"""Equality of objects that hold a tensor."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

__all__ = ["ByValue"]


class ByValue:
    """Makes a frozen dataclass, declared with eq=False, compare its tensors entry by entry."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            _same(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)  # pyright: ignore[reportArgumentType]
        )

    def __hash__(self) -> int:
        return hash((type(self), *(_key(getattr(self, field.name)) for field in fields(self))))  # pyright: ignore[reportArgumentType]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    return bool(a == b)


def _key(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else value
