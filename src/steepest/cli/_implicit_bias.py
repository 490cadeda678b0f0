"""`steepest implicit-bias`."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    from torch import Tensor

    from steepest.implicit_bias import Spread, Surveyed

__all__ = ["implicit_bias"]


def implicit_bias(
    matrix: Annotated[
        str, typer.Option(help="One equation or example per row: [[1, .1, .01]], or a .npy or .csv file.")
    ] = "[[1, .1, .01]]",
    target: Annotated[str, typer.Option(help="One number per row: [1], or a file.")] = "[1]",
    theta0: Annotated[
        str | None, typer.Option(help="Initial point, one number per column, or a file.", show_default="zeros")
    ] = None,
    loss: Annotated[str, typer.Option(help="squared, or logistic or exponential with targets -1 and 1.")] = "squared",
    scales: Annotated[
        str | None, typer.Option(help="Feature scales of other data, one per column, or a file.", show_default="all 1")
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Steps per simulated run, where no limit is determined; 0 for none.", min=0)
    ] = 1000,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Print for every rule its theorem, or why its limit is not determined.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON and nothing else.")] = False,
) -> None:
    """Predict where optimizers converge on a linear problem, and whether the data determine it."""
    from steepest.implicit_bias import survey

    others = [None if text is None else _flat(_numbers(text)) for text in (theta0, scales)]
    rows = survey(_numbers(matrix), _flat(_numbers(target)), others[0], loss, others[1], steps)
    if as_json:
        typer.echo(json.dumps([_as_record(row) for row in rows], indent=2))
        return
    console = Console(markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 130  # a file has no width
    headings = ["determined", "sensitivity, data like A", "other scales"]
    if console.width < 100 and scales is None:
        headings.pop()  # the last column matters least
    table = Table(
        "rule", "ends at" if loss == "squared" else "ends at, or direction (->)", *headings, box=box.SIMPLE_HEAD
    )
    for row in rows:
        table.add_row(row.name, *_cells(row)[: 1 + len(headings)])
    console.print(table)
    console.print("Sensitivity is |theta_j| times the scale of feature j: how much it moves a prediction.")
    if reasons:
        for row in rows:
            reason = row.refusal if row.prediction is None else row.prediction.reason
            console.print(f"{row.name.strip()}: {reason}", highlight=False)


def _numbers(text: str) -> Any:
    """Return the numbers of a Python list, a .npy or a .csv file."""
    if text.lstrip().startswith("["):
        try:
            found = ast.literal_eval(text.strip())
        except (SyntaxError, ValueError) as error:
            raise InvalidArgument(
                "numbers must be a list of finite numbers, as in Python", got=text, remedy="Try [[1, .1], [0, 2]]."
            ) from error
        if len({len(row) if isinstance(row, list) else -1 for row in found}) > 1:
            raise InvalidArgument("the rows of a matrix must have one length", got=text, remedy="Fill them up with 0.")
        return found
    import numpy as np

    path = Path(text)
    try:
        return np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        why = str(error).rstrip(".")
        raise InvalidArgument(
            "numbers must be a list [...], a .npy file, or a .csv file without a header", got=text, remedy=f"{why}."
        ) from error


def _flat(numbers: Any) -> Any:
    """Return a file's only row or column as a vector."""
    return numbers.flatten() if hasattr(numbers, "flatten") else numbers


def _cells(row: Surveyed) -> list[str]:
    if row.prediction is None:
        return ["cannot start there", "", "", ""]
    if row.like is None or row.other is None:
        return [_apart(row.spread), "no", "", ""]
    end, arrow = (row.prediction.point, "") if row.prediction.point is not None else (row.prediction.direction, "-> ")
    assert end is not None
    return [arrow + _short(end), "yes", _short(row.like), _short(row.other)]


def _apart(spread: Spread | None) -> str:
    if spread is None:
        return ""
    rested = f"{spread.rested} of {len(spread.simulation.point)} runs at rest"
    return rested if spread.rested < 2 else f"{rested}, {spread.distance:.2g} apart"


def _short(values: Tensor) -> str:
    shown = ", ".join(re.sub(r"^(-?)0\.", r"\1.", f"{float(value):.3g}") for value in values[:4])
    return f"[{shown}{', ...' if len(values) > 4 else ''}]"


def _as_record(row: Surveyed) -> dict[str, Any]:
    prediction = row.prediction

    def listed(values: Tensor | None) -> list[float] | None:
        return None if values is None else values.tolist()

    return {
        "rule": row.name.strip(),
        "determined": prediction is not None and prediction.determined,
        "point": None if prediction is None else listed(prediction.point),
        "direction": None if prediction is None else listed(prediction.direction),
        "reason": row.refusal if prediction is None else prediction.reason,
        "sensitivity": listed(row.like),
        "sensitivity_other_scales": listed(row.other),
        "runs_at_rest": None if row.spread is None else row.spread.rested,
        "spread": None if row.spread is None or math.isnan(row.spread.distance) else row.spread.distance,
    }
