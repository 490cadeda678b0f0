"""A comparison as tables for people and programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

from steepest._files import write_text
from steepest.compare import ALPHA, FIRST_SEED, Cell, Comparison, Run
from steepest.errors import InvalidArgument
from steepest.features import change_of
from steepest.linearize import FeatureChange
from steepest.report._finite import finite
from steepest.train import History

__all__ = ["change_seen", "comparison_as_json", "write_tables"]


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write results.csv (losses and metrics) and timing.csv (costs).

    Names in the tables that a spreadsheet would take for formulas have an apostrophe in front.
    """
    more = _further_metrics(comparison)
    header = (*_RESULTS, *(f"final_{name}" for name in more))
    write_text(folder / "results.csv", _csv(header, [_results_row(comparison, run, more) for run in comparison.runs]))
    write_text(folder / "timing.csv", _csv(_TIMING, [_timing_row(comparison, run) for run in comparison.runs]))


def comparison_as_json(comparison: Comparison, command: str) -> dict[str, Any]:
    """Return the verdict and all it rests on as plain JSON; numbers that are not finite are null."""
    design, verdict = comparison.design, comparison.verdict
    data: dict[str, Any] = {
        "verdict": str(verdict),
        "choice": verdict.choice and dataclasses.asdict(verdict.choice),
        "regret": verdict.regret,
        "margin": comparison.analysis.margin,
        "beaten": [dataclasses.asdict(cell) for cell in verdict.beaten],
        "same": [dataclasses.asdict(cell) for cell in verdict.same],
        "undecided": [dataclasses.asdict(cell) for cell in verdict.undecided],
        "next": verdict.next_step and dataclasses.asdict(verdict.next_step),
        "task": comparison.task_name,
        "measure": dataclasses.asdict(comparison.measure),
        "metrics": comparison.metric_names,
        "alpha": ALPHA,
        "target": comparison.target,
        "baseline": dataclasses.asdict(comparison.baseline_cell),
        "ranking": [dataclasses.asdict(standing) for standing in comparison.table()],
        "pairs": [dataclasses.asdict(pair) for pair in verdict.differences],
        "diagnoses": [
            dataclasses.asdict(each)
            for init in dict.fromkeys(cell.init for cell in design.cells)
            for each in comparison.diagnoses(init)
        ],
        "features": [_features_of(comparison, cell) for cell in design.cells],
        "gradient": comparison.gradient or "backpropagation",
        "budget": _budget(comparison),
        "seeds": {
            "tuning": design.budget.tuning_seeds,
            "final": max(comparison.analysis.seeds.values()),
            "looks": list(design.seeds.looks),
            "until": design.seeds.until,
            "first final": FIRST_SEED,
        },
        "command": command,
        "notices": list(comparison.notices),
        "environment": dict(comparison.environment),
    }
    return finite(data)


def change_seen(comparison: Comparison, cell: Cell) -> FeatureChange | str | None:
    """Return what a `FeatureObserver` has seen in the first final run of a cell; None where there was none."""
    try:
        return change_of(comparison.final_histories(cell)[0])
    except InvalidArgument:  # another observer has that name
        return None


def _features_of(comparison: Comparison, cell: Cell) -> dict[str, Any]:
    """Return how the first final run changed the tangent features; singular values for the first-ranked only."""
    found = change_seen(comparison, cell)
    if not isinstance(found, FeatureChange):
        return {"cell": dataclasses.asdict(cell), "refused": found}
    numbers = dataclasses.asdict(found)
    if cell != comparison.table()[0].cell:
        for end in ("start", "end"):
            del numbers[end]["singular_values"]
    return {"cell": dataclasses.asdict(cell), **numbers}


def _budget(comparison: Comparison) -> dict[str, Any]:
    budget = comparison.design.budget
    return {**dataclasses.asdict(budget), "steps": comparison.steps, "schedule": comparison.schedule_name or None}


_FORMULAS = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")  # the last four are the wide forms of the first four
_RESULTS = (
    "phase",
    "optimizer",
    "init",
    "learning_rate",
    "seed",
    "final_valid_loss",
    "best_valid_loss",
    "final_valid_metric",
    "steps_to_target",
    "diverged",
)
_TIMING = ("phase", "optimizer", "init", "learning_rate", "seed", "seconds_per_step", "optimizer_state_bytes")


def _run_columns(run: Run) -> list[Any]:
    return [run.phase, _no_formula(run.cell.optimizer), _no_formula(run.cell.init), run.lr, run.seed]


def _no_formula(name: str) -> str:
    """Return a name with an apostrophe in front where a spreadsheet would take it for a formula.

    A name that begins with an apostrophe gets another one, so that removing the first restores every name.

    >>> _no_formula("=1+1"), _no_formula("adamw")
    ("'=1+1", 'adamw')
    """
    return f"'{name}" if name.startswith(_FORMULAS) else name


def _further_metrics(comparison: Comparison) -> list[str]:
    """Return the names of all metrics but the first, which has a column of its own."""
    return comparison.metric_names[1:]


def _results_row(comparison: Comparison, run: Run, further: list[str]) -> list[Any]:
    history, first = comparison.histories[run], next(iter(comparison.metric_names), "")
    return [
        *_run_columns(run),
        history.valid_loss[-1],
        min(history.valid_loss),
        _last(history, first),
        comparison.steps_to_target(run) if run.phase == "final" else "",
        history.diverged,
        *(_last(history, name) for name in further),
    ]


def _last(history: History, metric: str) -> float:
    return history.valid_metrics[metric][-1] if metric in history.valid_metrics else math.nan


def _timing_row(comparison: Comparison, run: Run) -> list[Any]:
    history = comparison.histories[run]
    return [*_run_columns(run), history.seconds_per_step, history.state_bytes]


def _csv(header: tuple[str, ...], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
