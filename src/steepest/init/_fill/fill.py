"""The result of filling one weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Fill"]


@dataclass(frozen=True)
class Fill:
    """What was done to one weight, for its row of the table.

    Attributes:
        rule: The rule, in words.
        std: The standard deviation asked; nan where none is.
        fan: The fan used; nan where none is.
        gain: The gain used; nan where none is.
    """

    rule: str
    std: float = math.nan
    fan: float = math.nan
    gain: float = math.nan
