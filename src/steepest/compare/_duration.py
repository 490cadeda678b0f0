"""Times in words."""

from __future__ import annotations

import math

__all__ = ["about"]


def about(seconds: float) -> str:
    """Return a time in the unit that suits it, in whole numbers, rounded up.

    >>> [about(seconds) for seconds in (0.2, 70, 600, 5400, 20_000, 400_000)]
    ['1 s', '70 s', '10 min', '90 min', '6 h', '5 days']
    """
    for unit, size, most in (("s", 1, 180), ("min", 60, 180), ("h", 3600, 72)):
        if seconds < most * size:
            return f"{max(1, math.ceil(seconds / size))} {unit}"
    return f"{math.ceil(seconds / 86400)} days"
