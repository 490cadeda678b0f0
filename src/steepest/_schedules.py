"""Schedules that several packages offer."""

from __future__ import annotations

from steepest._check import at_least

__all__ = ["inverse_square_root"]


def inverse_square_root(t: int) -> float:
    """Return 1 / sqrt(t + 1): steps that vanish and have an infinite sum.

    Args:
        t: The number of earlier steps, >= 0.

    Raises:
        InvalidArgument: If t is not a whole number from 0 to 2^1000.

    >>> inverse_square_root(0), inverse_square_root(3)
    (1.0, 0.5)
    """
    return (at_least("t", t, 0, most=2**1000) + 1) ** -0.5
