"""Arithmetic of the arguments of norms: a tensor, or tensors by name."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from steepest._check import floating, instance
from steepest.errors import InvalidArgument

__all__ = ["check_list", "check_shapes", "check_tensor", "double", "inner", "like", "times", "widened"]

T = TypeVar("T", Tensor, dict[str, Tensor])


_FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_tensor(x: Any) -> None:
    """Raise InvalidArgument unless x is a dense tensor of real floating-point numbers; its entries are not checked."""
    # Of the usual ones that is known for a tenth of a microsecond.
    if not (isinstance(x, Tensor) and x.dtype in _FLOATING and x.layout is torch.strided and not x.is_meta):
        floating("the tensor of a norm", x)
        raise InvalidArgument("the tensor of a norm must have one of torch's usual dtypes", got=x.dtype)


def check_list(xs: Any) -> None:
    """Raise InvalidArgument unless the argument is a list or tuple."""
    instance("the tensors", xs, (list, tuple), "a list or a tuple", remedy="Pass a list of gradients.")


def times(x: T, factor: float | Tensor) -> T:
    """Multiply in place, and return, a point to which there is no other reference."""
    if isinstance(x, dict):
        for part in x.values():
            part.mul_(factor)
    else:
        x.mul_(factor)
    return x


def check_shapes(g: T, step: T) -> None:
    """Raise InvalidArgument unless both are tensors, or tensors by name, and a step has the shape of its gradient."""
    if isinstance(g, dict):
        other = instance("a step", step, dict, "a dict of tensors by name, as its gradient is")
        for name, part in g.items():
            if name in other:
                check_shapes(part, other[name])
        return
    check_tensor(g)
    check_tensor(step)
    if g.shape != cast("Tensor", step).shape:
        raise InvalidArgument(
            f"a step must have the shape of its gradient, {tuple(g.shape)}",
            got=f"shape {tuple(cast('Tensor', step).shape)}",
            remedy="Pass both of one parameter.",
        )


def double(x: T) -> T:
    """Return the point in float64."""
    if isinstance(x, dict):
        return {name: part.double() for name, part in x.items()}
    return x.double()


def widened(x: T) -> T:
    """Return a point with float16 tensors, whose range products of two numbers leave, in float32."""
    if isinstance(x, dict):
        return {name: widened(part) for name, part in x.items()}
    check_tensor(x)
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
