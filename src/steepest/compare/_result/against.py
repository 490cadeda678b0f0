"""The differences of all alternatives from the choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from steepest.compare._design import Cell
from steepest.compare._measure import Measure
from steepest.compare._sequential import Difference

__all__ = ["Against", "against"]


@dataclass(frozen=True)
class Against:
    """The difference of an alternative's mean from the choice's, in units of the measure.

    Attributes:
        cell: The alternative.
        seeds: The number of seeds that both have.
        estimate: mean(cell) - mean(choice).
        low: The lower end of its interval; the intervals of all pairs hold together.
        high: The upper end.
    """

    cell: Cell
    seeds: int
    estimate: float
    low: float
    high: float


def against(choice: Cell, differences: Iterable[Difference[Cell]], measure: Measure) -> list[Against]:
    """Return the difference of every other alternative from the choice."""
    found: list[Against] = []
    for each in differences:
        if choice not in (each.a, each.b):
            continue
        # In the analysis smaller values are better; turned once for the order of the pair, once for the measure.
        cell = each.b if each.a == choice else each.a
        estimate, ends = each.estimate, (each.low, each.high)
        for turned in (each.a == choice, measure.higher_is_better):
            if turned:
                estimate, ends = -estimate, (-ends[1], -ends[0])
        found.append(Against(cell, each.seeds, estimate, *ends))
    return found
