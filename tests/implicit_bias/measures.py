"""How far points lie apart, and with how many digits references are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from mpmath import mp
from numpy.typing import NDArray

__all__ = ["Array", "digits", "gap", "largest_gap"]

Array = NDArray[np.float64]


def gap(x: object, y: object) -> float:
    """The distance in units of the larger point."""
    x, y = np.asarray(x), np.asarray(y)
    return float(np.linalg.norm(x - y) / max(1.0, np.linalg.norm(y)))


def largest_gap(x: object, y: object) -> float:
    """The largest difference of two entries."""
    return float(np.abs(np.asarray(x) - np.asarray(y)).max())


def digits(count: int) -> Callable[[], Iterator[None]]:
    """Return a fixture that lets all tests of a file compute with so many digits."""

    @pytest.fixture(autouse=True)
    def precise() -> Iterator[None]:
        with mp.workdps(count):
            yield

    return precise
