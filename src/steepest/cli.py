"""The command line: thin, it only translates."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from steepest._version import __version__
from steepest.errors import InvalidArgument, SteepestError

if TYPE_CHECKING:
    from torch import Tensor

    from steepest.compare import Comparison
    from steepest.landing import Spread, Surveyed

__all__ = ["main"]

app = typer.Typer(
    help="Steepest descent for PyTorch, and a fair trial that tells you which optimizer to use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a `SteepestError` is one line and exit status 2."""
    try:
        app()
    except SteepestError as error:
        print(f"steepest: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _version(asked: bool | None) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = None,
) -> None:
    """Options of every command."""


@app.command("compare")
def _compare(
    task: Annotated[str, typer.Option(help="digits, mnist5k, curve, or your own as MODULE:ATTR.")] = "digits",
    optimizers: Annotated[
        str, typer.Option(help="Names (sgd, momentum, adamw, l2, sign, muon) or MODULE:Class, with commas.")
    ] = "sgd,momentum,adamw,sign,muon",
    inits: Annotated[
        str | None,
        typer.Option(
            help="Names (zero, constant, random, he, xavier, orthogonal, lsuv, default), with commas.",
            show_default="the task's",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Final runs of each alternative, at least 3.")] = 10,
    steps: Annotated[int | None, typer.Option(help="Training steps of a run.", show_default="the task's")] = None,
    schedule: Annotated[str, typer.Option(help="How learning rates decay: cosine or constant.")] = "cosine",
    rates: Annotated[int, typer.Option(help="Learning rates tried for each alternative, at least 5.")] = 7,
    baseline: Annotated[
        str | None, typer.Option(help="Whose best loss is the target.", show_default="adamw, else the first")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Any Optuna storage URL.", show_default="sqlite:///OUT/study.db")
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs at a time, each on one thread.")] = 2,
    device: Annotated[str, typer.Option(help="Where to train, for example cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/TASK")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Tune, run and compare optimizers and inits on one task; started again, it goes on where it was."""
    from steepest.compare import Budget, RichProgress, compare, require_writable, without_password
    from steepest.compare import as_json as to_json
    from steepest.tasks import load

    loaded = load(task)
    folder = out or Path("runs") / loaded.name
    require_writable(folder)
    console = Console(stderr=True, markup=False)
    progress = RichProgress(console) if console.is_terminal and not as_json else None
    command = shlex.join(["steepest", *sys.argv[1:]])
    try:
        with progress or contextlib.nullcontext():
            comparison = compare(
                loaded,
                _names(optimizers),
                None if inits is None else _names(inits),
                seeds=seeds,
                budget=Budget(steps=steps, rates=rates, schedule=schedule),
                baseline=baseline,
                storage=storage or f"sqlite:///{folder.resolve() / 'study.db'}",
                workers=workers,
                device=device,
                listener=progress,
            )
    except KeyboardInterrupt:
        console.print(f"Stopped. Finished runs are kept; to go on: {command}", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except SteepestError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is in it
        raise
    if storage:
        command = shlex.join(["steepest", *(word.replace(storage, without_password(storage)) for word in sys.argv[1:])])
    report = comparison.write(folder, command)
    if as_json:
        typer.echo(json.dumps(to_json(comparison, command), indent=2))
    else:
        _show(comparison, report)


@app.command("landing")
def _landing(
    matrix: Annotated[
        str, typer.Option(help="An equation or example a row: [[1, .1, .01]], or a .npy or .csv file.")
    ] = "[[1, .1, .01]]",
    target: Annotated[str, typer.Option(help="One number a row: [1], or a file.")] = "[1]",
    theta0: Annotated[
        str | None, typer.Option(help="Where to start, one number a column, or a file.", show_default="zeros")
    ] = None,
    loss: Annotated[str, typer.Option(help="squared; logistic or exponential, with targets -1 and 1.")] = "squared",
    scales: Annotated[
        str | None, typer.Option(help="Feature scales of other data, one a column, or a file.", show_default="all 1")
    ] = None,
    steps: Annotated[int, typer.Option(help="Of simulated runs where nothing is determined; 0: none.", min=0)] = 1000,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Print the theorem or the obstacle of every rule.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON and nothing else.")] = False,
) -> None:
    """Say where optimizers land on a linear problem, and whether the data determine it."""
    from steepest.landing import survey

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
        headings.pop()  # the last column is the least missed
    table = Table(
        "rule", "lands at" if loss == "squared" else "lands at, or direction (->)", *headings, box=box.SIMPLE_HEAD
    )
    for row in rows:
        table.add_row(row.name, *_cells(row)[: 1 + len(headings)])
    console.print(table)
    console.print("Sensitivity is |theta_j| times the scale of feature j: how much it moves a prediction.")
    if reasons:
        for row in rows:
            reason = row.refusal if row.landing is None else row.landing.reason
            console.print(f"{row.name.strip()}: {reason}", highlight=False)


def _numbers(text: str) -> Any:
    """Return the numbers of a Python list, a .npy or a .csv file."""
    if text.lstrip().startswith("["):
        try:
            return ast.literal_eval(text.strip())
        except (SyntaxError, ValueError) as error:
            raise InvalidArgument(
                "numbers are a list as in Python", got=text, remedy="Try [[1, .1], [0, 2]]."
            ) from error
    import numpy as np

    path = Path(text)
    try:
        return np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        why = str(error).rstrip(".")
        raise InvalidArgument(
            "numbers are a list [...], a .npy file, or a .csv file without a header", got=text, remedy=f"{why}."
        ) from error


def _flat(numbers: Any) -> Any:
    """Return a file's only row or column as a vector."""
    return numbers.flatten() if hasattr(numbers, "flatten") else numbers


def _cells(row: Surveyed) -> list[str]:
    if row.landing is None:
        return ["cannot start there", "", "", ""]
    if row.like is None or row.other is None:
        return [_apart(row.spread), "no", "", ""]
    end, arrow = (row.landing.point, "") if row.landing.point is not None else (row.landing.direction, "-> ")
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
    landing = row.landing

    def listed(values: Tensor | None) -> list[float] | None:
        return None if values is None else values.tolist()

    return {
        "rule": row.name.strip(),
        "determined": landing is not None and landing.determined,
        "point": None if landing is None else listed(landing.point),
        "direction": None if landing is None else listed(landing.direction),
        "reason": row.refusal if landing is None else landing.reason,
        "sensitivity": listed(row.like),
        "sensitivity_other_scales": listed(row.other),
        "runs_at_rest": None if row.spread is None else row.spread.rested,
        "spread": None if row.spread is None or math.isnan(row.spread.distance) else row.spread.distance,
    }


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show(comparison: Comparison, report: Path) -> None:
    console = Console(markup=False)
    table = Table("", "rate", "loss", "95% interval", "to target", box=box.SIMPLE_HEAD)
    if comparison.metric_name:
        table.add_column(comparison.metric_name)
    for s in comparison.table():
        cells: list[Any] = [
            comparison.label(s.cell),
            f"{s.lr:.3g}" + (" (edge)" if s.lr_on_edge else ""),
            f"{s.loss.estimate:.4g}" + (f" ({s.diverged} diverged)" if s.diverged else ""),
            f"{s.loss.low:.4g} to {s.loss.high:.4g}",
            "missed" if s.steps_to_target == float("inf") else f"{s.steps_to_target:.0f}",
        ]
        table.add_row(*cells, *([f"{s.metric:.4g}"] if comparison.metric_name else []))
    console.print(table)
    console.print(comparison.verdict.headline, highlight=False, style="bold")
    for sentence in comparison.verdict.details:
        console.print(sentence, highlight=False)
    console.print(f"Report: {report}", highlight=False, soft_wrap=True)
