"""Validation of arguments, with errors in one grammar: NAME must be RULE (got VALUE). What to do."""

from __future__ import annotations

import difflib
import numbers
import operator
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from steepest.errors import InvalidArgument

__all__ = [
    "at_least",
    "boolean",
    "device",
    "finite",
    "floating",
    "function",
    "generator",
    "in_range",
    "instance",
    "one_of",
]

T = TypeVar("T")


def at_least(name: str, value: Any, least: int, *, most: int | None = None, remedy: str = "") -> int:
    """Return `value` as an int if it is a whole number >= `least` (and <= `most`); True and 2.0 are refused.

    >>> at_least("steps", 2.5, 1)
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: steps must be a whole number >= 1 (got 2.5). Pass a whole number >= 1.
    """
    if not isinstance(value, bool) and isinstance(value, numbers.Integral):
        whole = operator.index(value)
        if whole >= least and (most is None or whole <= most):
            return whole
    rule = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
    raise InvalidArgument(f"{name} must be {rule}", got=value, remedy=remedy or f"Pass {rule}.")


def in_range(name: str, value: Any, interval: str, *, remedy: str = "") -> float:
    """Return `value` as a float if it is a real number in the interval; nan, True and tensors are refused.

    Args:
        name: The name of the argument.
        value: The value that was passed.
        interval: In the usual notation, "[0, 1)" or "(0, inf)"; only a closed end, "(0, inf]", includes
            infinity itself.
        remedy: What to do; by default to pass such a number.

    >>> in_range("momentum", 1, "[0, 1)")
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: momentum must be a number in [0, 1) (got 1). Pass a number in [0, 1).
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:  # a whole number or fraction beyond float64
            number = float("nan")
        above = number >= low if interval[0] == "[" else number > low
        below = number <= high if interval[-1] == "]" else number < high
        if above and below:
            return number
    rule = "a finite number" if interval == "(-inf, inf)" else f"a number in {interval}"
    raise InvalidArgument(f"{name} must be {rule}", got=value, remedy=remedy or f"Pass {rule}.")


def finite(name: str, value: Any, *, remedy: str = "") -> float:
    """Return `value` as a float if it is a finite real number.

    >>> finite("shift", float("nan"))
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: shift must be a finite number (got nan). Pass a finite number.
    """
    return in_range(name, value, "(-inf, inf)", remedy=remedy)


def one_of(name: str, value: T, choices: Iterable[T], *, remedy: str = "") -> T:
    """Return `value` if it equals one of the choices, which are strings or numbers, and has its type.

    >>> one_of("mode", "maximum", ("max", "l2", "sum"))
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: mode must be one of max, l2, sum (got 'maximum'). Did you mean max?
    """
    known = list(choices)
    # The type first: comparing an array gives an array, which has no truth value.
    if any(type(value) is type(choice) and value == choice for choice in known):
        return value
    names = [choice for choice in known if isinstance(choice, str)]
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5) if isinstance(value, str) else []
    advice = f"Did you mean {near[0]}?" if near else "Pass one of these."
    raise InvalidArgument(f"{name} must be one of {', '.join(map(str, known))}", got=value, remedy=remedy or advice)


def boolean(name: str, value: Any) -> bool:
    """Return `value` if it is True or False.

    >>> boolean("nesterov", "yes")
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: nesterov must be True or False (got 'yes'). Pass True or False.
    """
    return instance(name, value, bool, "True or False")


def function(name: str, value: T, *, remedy: str = "") -> T:
    """Return `value` if it can be called.

    >>> function("observe", 3)
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: observe must be a function (got 3). Pass a function.
    """
    if not callable(value):
        raise InvalidArgument(f"{name} must be a function", got=value, remedy=remedy or "Pass a function.")
    return value


def device(name: str, value: Any) -> str:
    """Return the name of a device if torch can compute on it here.

    >>> device("device", None)
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: device must be one that torch can use here (got None). Try "cpu" or "cuda".
    """
    rule, remedy = f"{name} must be one that torch can use here", 'Try "cpu" or "cuda".'
    if not isinstance(value, (str, torch.device)) or str(value) in ("", "meta"):
        raise InvalidArgument(rule, got=value, remedy=remedy)
    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InvalidArgument(rule, got=value, remedy=f"Torch says: {str(error).splitlines()[0]}") from error
    return str(value)


def generator(name: str, value: Any) -> torch.Generator:
    """Return `value` if it is a torch.Generator.

    >>> generator("generator", 3)
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: generator must be a torch.Generator (got 3). Try torch.Generator().manual_seed(0).
    """
    remedy = "Try torch.Generator().manual_seed(0)."
    return instance(name, value, torch.Generator, "a torch.Generator", remedy=remedy)


def instance(name: str, value: Any, kind: type[T] | tuple[type[T], ...], described: str, *, remedy: str = "") -> T:
    """Return `value` if it is an instance of `kind`; `described` names the kind, for example "a Norm".

    >>> instance("model", None, torch.nn.Module, "a torch.nn.Module")
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: model must be a torch.nn.Module (got None). Pass a torch.nn.Module.
    """
    if not isinstance(value, kind):
        raise InvalidArgument(f"{name} must be {described}", got=value, remedy=remedy or f"Pass {described}.")
    return value


def floating(name: str, value: Any, *, remedy: str = "") -> Tensor:
    """Return `value` if it is a dense tensor of real floating-point numbers of 16 bits or more, not on device meta.

    Whether its entries are finite is not checked, which would stall a GPU.

    >>> floating("gradient", torch.tensor([1, 2]))
    Traceback (most recent call last):
    steepest.errors.InvalidArgument: gradient must be a floating-point tensor (got torch.int64). Try .float().
    """
    if not isinstance(value, Tensor):
        remedy = remedy or "Try torch.as_tensor(x, dtype=torch.float32)."
        raise InvalidArgument(f"{name} must be a floating-point tensor", got=value, remedy=remedy)
    if not value.dtype.is_floating_point:
        raise InvalidArgument(
            f"{name} must be a floating-point tensor", got=value.dtype, remedy=remedy or "Try .float()."
        )
    if value.dtype.itemsize < 2:  # for storage only: torch does not compute with numbers of 8 bits
        raise InvalidArgument(
            f"{name} must be a tensor of at least 16 bits per number", got=value.dtype, remedy="Try .bfloat16()."
        )
    if value.layout != torch.strided:
        raise InvalidArgument(f"{name} must be a dense tensor", got=value.layout, remedy="Try .to_dense().")
    if value.device.type == "meta":
        remedy = "Move it to a device first, with .to_empty(device='cpu'), and fill it."
        raise InvalidArgument(f"{name} must be a tensor with data", got=value.device, remedy=remedy)
    return value
