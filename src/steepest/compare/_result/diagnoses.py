"""The gradients and the diagnosis of a cell's final runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from steepest.compare._design import Cell
from steepest.diagnose import Diagnosis
from steepest.train import History

__all__ = ["CellDiagnosis", "diagnose_cell"]


@dataclass(frozen=True)
class CellDiagnosis:
    """The diagnosis of an alternative over its final runs.

    Attributes:
        cell: The alternative.
        diagnosis: The diagnosis of the first run with the most frequent cause.
        count: The number of runs with this cause.
        seeds: The number of runs.
        first_gradient: The mean gradient norm at the first step, as a median over the runs.
        last_gradient: The mean gradient norm at the last recorded step, as a median over the runs.
    """

    cell: Cell
    diagnosis: Diagnosis
    count: int
    seeds: int
    first_gradient: float
    last_gradient: float


def diagnose_cell(cell: Cell, histories: Sequence[History]) -> CellDiagnosis | None:
    """Return the most frequent diagnosis of a cell's final runs; None if no run was monitored."""
    diagnoses = [history.diagnosis for history in histories if history.diagnosis is not None]
    if not diagnoses:
        return None
    ((cause, count),) = Counter(diagnosis.cause for diagnosis in diagnoses).most_common(1)
    norms = [history.mean_gradient_norm for history in histories if history.mean_gradient_norm]
    return CellDiagnosis(
        cell,
        next(diagnosis for diagnosis in diagnoses if diagnosis.cause == cause),
        count,
        len(histories),
        statistics.median(each[0] for each in norms) if norms else float("nan"),
        statistics.median(each[-1] for each in norms) if norms else float("nan"),
    )
