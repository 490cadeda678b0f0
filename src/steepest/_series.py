"""The numbers of a display, validated when it is made, as it is drawn later."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest._check import instance
from steepest.errors import InvalidArgument

__all__ = ["Array", "as_arrays", "named", "numbers", "series"]

Array = NDArray[np.float64]


def numbers(name: str, values: Any, *shape: int | None, whole: bool = False) -> tuple[int, ...]:
    """Return the shape of real, or whole, numbers, if it is the given one; None stands for any size.

    Raises:
        InvalidArgument: If they are something else.
    """
    try:
        array = np.asarray(values)
    except Exception:  # what is passed may raise anything
        array = np.asarray(None)
    fits = len(array.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    kinds = "iu" if whole and array.size else "iuf"  # an empty list becomes floating-point numbers in numpy
    if array.dtype.kind not in kinds or not fits:
        sizes = ", ".join("any" if n is None else str(n) for n in shape)
        rule = f"{name} must be {'whole' if whole else 'real'} numbers of shape [{sizes}]"
        raise InvalidArgument(rule, got=values, remedy="Pass an array.")
    return array.shape


def named(name: str, values: Any, names: Iterable[str] | None = None) -> Mapping[str, Any]:
    """Return a mapping by name, if it has these names (any, if names is None).

    Raises:
        InvalidArgument: If it is something else.
    """
    for key in instance(name, values, Mapping, "a dict by name"):
        instance(name, key, str, "a dict by name")
    if names is not None and set(values) != set(names):
        known = ", ".join(names)
        raise InvalidArgument(f"{name} must have the names {known}", got=list(values), remedy="Give each its own.")
    return values


def series(
    name: str, values: Any, *shape: int | None, names: Iterable[str] | None = None, whole: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return by name the shapes of numbers that are given by name, validated by `named` and `numbers`.

    Raises:
        InvalidArgument: If they are something else.

    >>> series("losses", {"sgd": [0.5, 0.4]}, None)
    {'sgd': (2,)}
    """
    return {
        key: numbers(f"{name}[{key!r}]", each, *shape, whole=whole) for key, each in named(name, values, names).items()
    }


def as_arrays(display: Any) -> None:
    """Convert the fields of a frozen display that are annotated as arrays, after `numbers` has validated them."""
    for field in dataclasses.fields(display):
        value = getattr(display, field.name)
        if field.type == "Array":
            object.__setattr__(display, field.name, np.asarray(value))
        elif field.type == "Mapping[str, Array]":
            object.__setattr__(display, field.name, {name: np.asarray(each) for name, each in value.items()})
