"""Values that are not finite, and standard errors."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from steepest import _check
from steepest.errors import NoFiniteValue

__all__ = ["Worst", "all_finite", "check_worst", "mean_error", "read", "require_some"]

Worst = Literal["largest", "smallest"]
"""Which finite value is the worst: the largest for an objective that is minimised."""


def check_worst(worst: Any) -> Worst:
    """Return `worst`, checked."""
    return _check.one_of("worst", worst, ("largest", "smallest"))


def all_finite(values: Tensor, worst: Worst) -> tuple[Tensor, Tensor]:
    """Return the values with the worst finite one in place of each that is not finite, and their mean.

    On a GPU nothing waits, and inside of `torch.vmap` no number can be read: where no value is finite, the result is
    not finite either.

    Raises:
        NoFiniteValue: If none is finite, on the CPU.
    """
    if values.device.type == "cpu":
        mean = values.mean()
        number = read(mean)
        if number is not None:
            if math.isfinite(number):
                return values, mean
            require_some(values)
    finite = values.isfinite()
    if worst == "largest":
        replacement = torch.where(finite, values, -torch.inf).max()
    else:
        replacement = torch.where(finite, values, torch.inf).min()
    used = torch.where(finite, values, replacement)
    return used, used.mean()


def read(value: Tensor) -> float | None:
    """Return a scalar as a number; None inside of `torch.vmap`, where it stands for many."""
    try:
        return value.item()
    except RuntimeError:
        return None


def require_some(values: Tensor) -> None:
    """Check that a value is finite.

    Raises:
        NoFiniteValue: If none is.
    """
    if not bool(values.isfinite().any()):
        raise NoFiniteValue(
            "the objective must have a finite value at one point at least",
            got=f"{len(values)} values that are NaN or infinite",
            remedy="Look for log(0) or a division by 0 at x.",
        )


def mean_error(terms: Tensor) -> Tensor:
    """Return the standard error of the mean of rows [n, d], [d]; nan for one row."""
    count = len(terms)
    if count < 2:
        return torch.full_like(terms[0], torch.nan)
    return terms.std(0) / math.sqrt(count)
