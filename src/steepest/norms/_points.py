"""Arithmetic of what norms measure: a tensor, or tensors by name."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor

from steepest.errors import InvalidArgument

__all__ = ["check_shapes", "double", "inner", "like", "times", "widened"]

T = TypeVar("T", Tensor, dict[str, Tensor])


def times(x: T, factor: float | Tensor) -> T:
    """Multiply in place, and return, a point that nobody else holds."""
    if isinstance(x, dict):
        for part in x.values():
            part.mul_(factor)
    else:
        x.mul_(factor)
    return x


def check_shapes(g: T, step: T) -> None:
    """Raise InvalidArgument unless a step has the shape of its gradient."""
    if isinstance(g, dict):
        other = cast("dict[str, Tensor]", step)
        for name, part in g.items():
            if name in other:
                check_shapes(part, other[name])
    elif g.shape != cast("Tensor", step).shape:
        raise InvalidArgument(
            f"a step has the shape of its gradient, {tuple(g.shape)}",
            got=f"shape {tuple(cast('Tensor', step).shape)}",
            remedy="Pass both of one parameter.",
        )


def double(x: T) -> T:
    """Return the point in float64."""
    if isinstance(x, dict):
        return {name: part.double() for name, part in x.items()}
    return x.double()


def widened(x: T) -> T:
    """Return a point with what is in float16, whose range products of two numbers leave, in float32."""
    if isinstance(x, dict):
        return {name: widened(part) for name, part in x.items()}
    return x.float() if x.dtype == torch.float16 else x


def like(x: T, y: T) -> T:
    """Return x in the dtypes of y."""
    if isinstance(x, dict):
        of = cast("dict[str, Tensor]", y)
        return {name: part.to(of[name].dtype) for name, part in x.items()}
    return x.to(cast("Tensor", y).dtype)


def inner(x: T, y: T) -> Tensor:
    """Return <x, y>, the sum over all entries of their products."""
    if isinstance(x, dict):
        other = cast("dict[str, Tensor]", y)
        parts = [(part * other[name]).sum() for name, part in x.items() if name in other]
        return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)
    return (x * y).sum()
