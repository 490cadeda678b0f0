"""The table of an initialisation, one row per parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from steepest._check import instance
from steepest.errors import UnknownName

__all__ = ["InitRow", "InitTable"]

_HEADER = ("parameter", "rule", "fan", "gain", "std asked", "std measured")


@dataclass(frozen=True)
class InitRow:
    """How one parameter was initialised.

    Attributes:
        parameter: Its name in `model.named_parameters()`.
        rule: What was done, in words.
        fan: The fan that the rule divides by; nan where it uses none.
        gain: The gain that the rule multiplies by; nan where it uses none.
        std_asked: The standard deviation that the rule asks for; nan where it asks for none.
        std_measured: The standard deviation of the entries as filled, about their mean; nan where there are none.
        left: Whether the parameter was left unchanged because it is frozen; the rule says why.
    """

    parameter: str
    rule: str
    fan: float
    gain: float
    std_asked: float
    std_measured: float
    left: bool = False


@dataclass(frozen=True)
class InitTable:
    """The rows of an initialisation, in the order of `model.named_parameters()`; prints as a table with a header.

    >>> print(InitTable((InitRow("0.weight", "He fan_in=50, relu", 50, 2**0.5, 0.2, 0.1987), )))
    parameter  rule                fan   gain  std asked  std measured
    0.weight   He fan_in=50, relu   50  1.414        0.2        0.1987
    """

    rows: tuple[InitRow, ...]

    def __iter__(self) -> Iterator[InitRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, parameter: str) -> InitRow:
        """Return the row of the named parameter."""
        instance("parameter", parameter, str, "a string")
        for row in self.rows:
            if row.parameter == parameter:
                return row
        raise UnknownName.among("parameter", parameter, [row.parameter for row in self.rows])

    def __str__(self) -> str:
        numbers = [[_number(x) for x in (r.fan, r.gain, r.std_asked, r.std_measured)] for r in self.rows]
        lines = [_HEADER, *((r.parameter, r.rule, *n) for r, n in zip(self.rows, numbers, strict=True))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(line)).rstrip()
            for line in lines
        )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
