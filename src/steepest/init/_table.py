"""What an initialisation did, parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from steepest.errors import UnknownName

__all__ = ["InitRow", "InitTable"]


@dataclass(frozen=True)
class InitRow:
    """One parameter's start.

    Attributes:
        parameter: Its name in `model.named_parameters()`.
        rule: What was done, in words.
        std_asked: The standard deviation that the rule asks for; nan where it asks for none.
        std_measured: The standard deviation of the entries as filled, about their mean.
    """

    parameter: str
    rule: str
    std_asked: float
    std_measured: float


@dataclass(frozen=True)
class InitTable:
    """The rows of an initialisation, in the order of `model.named_parameters()`; prints as a table."""

    rows: tuple[InitRow, ...]

    def __iter__(self) -> Iterator[InitRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, parameter: str) -> InitRow:
        """Return the row of the named parameter."""
        for row in self.rows:
            if row.parameter == parameter:
                return row
        raise UnknownName.among("parameter", parameter, [row.parameter for row in self.rows])

    def __str__(self) -> str:
        width = max((len(row.parameter) for row in self.rows), default=0)
        return "\n".join(
            f"{row.parameter:{width}}  {_number(row.std_asked)}  {_number(row.std_measured)}  {row.rule}"
            for row in self.rows
        )


def _number(value: float) -> str:
    return " " * 9 if math.isnan(value) else f"{value:9.4g}"
