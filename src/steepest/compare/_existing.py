"""A verdict on runs that were made elsewhere."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steepest._check import finite, instance
from steepest.compare._measure import LOSS, Measure
from steepest.compare._plan import Sequential
from steepest.compare._result.next_step import NextStep, open_differences
from steepest.compare._result.verdict import Verdict, judge
from steepest.compare._sequential import Analysis, analyse
from steepest.errors import InvalidArgument

__all__ = ["judge_runs", "read_runs"]

_FORMULA = "'"  # in front of a name that a spreadsheet would take for a formula (see `steepest.report.write`)

Runs = Mapping[str, Mapping[int, float]]


def judge_runs(
    runs: Runs, plan: Sequential | None = None, *, measure: Measure = LOSS, diverged: float | None = None
) -> Verdict[str]:
    """Return the verdict on runs that already exist, as a trial would give it (see `analyse`).

    Args:
        runs: By alternative and seed, the final value. All alternatives have the same seeds, except that those that a
            sequential plan has eliminated may have fewer.
        plan: The plan by which they were made; None for a number of seeds that was fixed before the first run.
        measure: What the values are.
        diverged: The value at which a diverged run counts; where it is None, all values must be finite.

    Raises:
        InvalidArgument: If there are fewer than two alternatives or three seeds, seeds are missing, or a value is not
            finite.

    >>> losses = {"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {0: 1.12, 1: 1.21, 2: 1.29}}
    >>> print(judge_runs(losses).headline)
    Take a: with 95% confidence the other is not better.
    """
    instance("measure", measure, Measure, "a Measure")
    values = _columns(runs, measure, diverged)
    seeds = sorted({seed for each in runs.values() for seed in each})
    if plan is None:
        plan = Sequential(looks=(len(seeds),))
    found = analyse(values, instance("plan", plan, Sequential, "a Sequential"))
    _require_all(values, found, seeds)
    unused = sum(len(of_name) - found.seeds[name] for name, of_name in values.items())
    remarks = [f"The plan ends after {found.look} seeds: {unused} later values are not used."] if unused else []
    margin = "" if plan.margin is None else str(plan.margin)
    differences = list(open_differences(found, values).values())
    next_step = NextStep.of(differences, len(values), found.margin, found.look)
    return judge(found, measure, str, next_step=next_step, margin=margin, remarks=remarks)


def read_runs(path: str | Path, measure: Measure = LOSS) -> dict[str, dict[int, float]]:
    """Read a table of runs: columns alternative, seed, and loss or the name of the measure.

    The table results.csv of a comparison is read as well; of it, only the final runs count.

    Raises:
        InvalidArgument: If it cannot be read, a column is missing, a cell is no number, or a seed appears twice.
    """
    place = Path(instance("path", path, (str, Path), "a path"))
    instance("measure", measure, Measure, "a Measure")
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows, names = list(table), list(table.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:  # not there, no text, no table
        raise InvalidArgument("a table of runs must be a readable CSV file", got=f"{place}: {error}") from error
    column = _column(names, measure)
    runs: dict[str, dict[int, float]] = {}
    inits = {row["init"] for row in rows} if "init" in names else set()
    for line, row in enumerate(rows, start=2):
        if row.get("phase", "final") != "final":
            continue
        name = _name(row, names, len(inits) > 1)
        if not name.strip():
            raise InvalidArgument("an alternative must have a name", got=f"{name!r} in line {line}")
        seed, value = _number(row, "seed", line), _number(row, column, line)
        of_name = runs.setdefault(name, {})
        if not seed.is_integer():
            raise InvalidArgument("a seed must be a whole number", got=f"{row['seed']} in line {line}")
        if int(seed) in of_name:
            raise InvalidArgument(
                "every alternative must have one value per seed",
                got=f"seed {int(seed)} of {name} again in line {line}",
                remedy="Remove one of the two, or give repeated runs seeds of their own.",
            )
        of_name[int(seed)] = value
    return runs


def _column(names: Sequence[str], measure: Measure) -> str:
    """Return the name of the column that holds the measure.

    Raises:
        InvalidArgument: If a column is missing.
    """
    known = ("loss", "final_valid_loss") if measure.name == "loss" else _of_metric(measure.name)
    found = next((name for name in known if name in names), None)
    who = "alternative" if "alternative" in names or "optimizer" not in names else "optimizer"
    missing = [name for name in (who, "seed", found or known[0]) if name not in names]
    if missing or found is None:
        raise InvalidArgument(
            "a table of runs must have the columns alternative, seed and "
            + ("loss" if measure.name == "loss" else measure.name),
            got=", ".join(names) or "none",
            remedy=_about_columns(missing, names),
        )
    return found


def _about_columns(missing: Sequence[str], names: Sequence[str]) -> str:
    """Return what to do about missing columns."""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        return "Separate the columns by commas."
    others = [name for name in names if name not in ("alternative", "optimizer", "init", "seed")]
    metric = f" To rank by another column, pass for example --rank-by max:{others[0]}." if others else ""
    return f"Add {', '.join(missing)}.{metric}"


def _of_metric(name: str) -> tuple[str, ...]:
    """Return the names of the columns that may hold a metric; a comparison calls its first one final_valid_metric."""
    return (name, f"final_{name}", *(("final_valid_metric",) if name == "metric" else ()))


def _name(row: Mapping[str, str], names: Sequence[str], several_inits: bool) -> str:
    if "alternative" in names:
        return row["alternative"].removeprefix(_FORMULA)
    name = row["optimizer"].removeprefix(_FORMULA)
    return f"{name} + {row['init'].removeprefix(_FORMULA)}" if several_inits else name


def _number(row: Mapping[str, Any], column: str, line: int) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{column} must be a number", got=f"{row[column]!r} in line {line}") from error


def _columns(runs: Any, measure: Measure, diverged: float | None) -> dict[str, list[float]]:
    """Return the scores of each alternative in the order of the seeds, smaller ones being better."""
    count = len(instance("runs", runs, Mapping, "a mapping from alternatives to values by seed"))
    if count < 2:
        raise InvalidArgument("a verdict must have at least two alternatives", got=", ".join(map(str, runs)) or "none")
    worst = None if diverged is None else finite("diverged", diverged)
    for each in runs.values():
        instance("the values of an alternative", each, Mapping, "a mapping from seeds to numbers")
    seeds = sorted({seed for each in runs.values() for seed in each})
    columns: dict[str, list[float]] = {}
    for name, each in runs.items():
        own = [seed for seed in seeds if seed in each]
        if own != seeds[: len(own)] or len(own) < 3:
            raise _missing(name, [seed for seed in seeds if seed not in each])
        columns[name] = []
        for seed in own:
            value = each[seed]
            if not math.isfinite(value):
                if worst is None:
                    raise InvalidArgument(
                        "the value of a run must be finite, unless it is said at which value a diverged run counts",
                        got=f"{value} of {name}, seed {seed}",
                        remedy="Pass for example the largest loss before training (--diverged 2.3).",
                    )
                value = worst
            columns[name].append(measure.natural(float(value)))
    return columns


def _require_all(values: Mapping[str, Sequence[float]], found: Analysis[str], seeds: Sequence[int]) -> None:
    """Check that no alternative lacks seeds that others have, unless it was eliminated."""
    for name, of_name in values.items():
        if len(of_name) < len(seeds) and name not in (*found.eliminated, *found.settled):
            raise _missing(name, list(seeds[len(of_name) :]))


def _missing(name: str, seeds: Sequence[int]) -> InvalidArgument:
    shown = ", ".join(map(str, seeds[:5])) + (", ..." if len(seeds) > 5 else "")
    return InvalidArgument(
        "every alternative must have the same seeds, at least three",
        got=f"{name} without seeds {shown}" if seeds else f"fewer than three of {name}",
        remedy="Run them, or remove these seeds from all alternatives. If a trial dropped some alternatives early, "
        "pass its plan (--max-seeds 20).",
    )
