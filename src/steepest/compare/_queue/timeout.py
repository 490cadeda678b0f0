"""The time after which a run counts as hanging."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict

from steepest._check import in_range
from steepest.compare._design import Cell
from steepest.errors import InvalidArgument

__all__ = ["RunTimeout", "in_words", "parse_duration"]

_FACTOR = 20
_LEAST = 60.0  # seconds; a busy machine may delay a run of milliseconds
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class RunTimeout:
    """The longest time of a run: as given, or 20 times the median of its cell (and at least a minute).

    Args:
        seconds: The longest time in seconds; None for the default.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._known: dict[Cell, list[float]] = defaultdict(list)

    def learn(self, cell: Cell, seconds: float) -> None:
        """Record the duration of a finished run."""
        self._known[cell].append(seconds)

    def of(self, cell: Cell) -> float:
        """Return the longest time of a cell's runs in seconds; infinite while none has finished."""
        if self._seconds is not None:
            return self._seconds
        known = self._known.get(cell)
        return max(_LEAST, _FACTOR * statistics.median(known)) if known else math.inf


def parse_duration(name: str, value: float | str) -> float:
    """Return a duration in seconds, given as a number of seconds or as text such as "90s", "10m" or "1h30m".

    Raises:
        InvalidArgument: If it is not a duration, or not positive and finite.

    >>> parse_duration("run_timeout", "1h30m")
    5400.0
    """
    remedy = 'Pass seconds, or for example "10m" or "1h30m".'
    if not isinstance(value, str):
        return in_range(name, value, "(0, inf)", remedy=remedy)
    text = value.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidArgument(f"{name} must be a time > 0", got=value, remedy=remedy)
    return seconds


def in_words(seconds: float) -> str:
    """Return a duration as readable text.

    >>> in_words(0.25), in_words(90), in_words(5400)
    ('0.25 s', '90 s', '90 min')
    """
    if seconds < 600:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.3g} h"
