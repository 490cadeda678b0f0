"""The numbers of a display, checked where it is made, as it is drawn later."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from steepest._check import instance
from steepest.errors import InvalidArgument

__all__ = ["as_arrays", "named", "numbers"]


def numbers(name: str, values: Any, *shape: int | None) -> tuple[int, ...]:
    """Return the shape of real numbers that have the one asked for, in which None stands for any size.

    Raises:
        InvalidArgument: If they are something else.
    """
    try:
        array = np.asarray(values)
    except Exception:  # what is passed may raise anything
        array = np.asarray(None)
    fits = len(array.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in "iuf" or not fits:
        sizes = ", ".join("any" if n is None else str(n) for n in shape)
        raise InvalidArgument(f"{name} must be real numbers of shape [{sizes}]", got=values, remedy="Pass an array.")
    return array.shape


def named(name: str, values: Any, names: Iterable[str] | None = None) -> Mapping[str, Any]:
    """Return what is given by name, of these names if there are any.

    Raises:
        InvalidArgument: If it is something else.
    """
    for key in instance(name, values, Mapping, "a dict by name"):
        instance(name, key, str, "a dict by name")
    if names is not None and set(values) != set(names):
        known = ", ".join(names)
        raise InvalidArgument(f"{name} must have the names {known}", got=list(values), remedy="Give each its own.")
    return values


def as_arrays(display: Any) -> None:
    """Make arrays of the fields of a frozen display that are annotated as such, which `numbers` has let through."""
    for field in dataclasses.fields(display):
        value = getattr(display, field.name)
        if field.type == "Array":
            object.__setattr__(display, field.name, np.asarray(value))
        elif field.type == "Mapping[str, Array]":
            object.__setattr__(display, field.name, {name: np.asarray(each) for name, each in value.items()})
