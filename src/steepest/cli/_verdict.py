"""`steepest verdict`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["verdict"]


def verdict(
    results: Annotated[
        Path, typer.Argument(help="A CSV table with the columns alternative, seed and loss; or a results.csv.")
    ],
    margin: Annotated[
        str | None,
        typer.Option(help="A difference that does not matter: 2% of the choice's mean, or .02.", show_default="none"),
    ] = None,
    rank_by: Annotated[
        str, typer.Option(help="The column that decides: loss, or max:NAME or min:NAME of another one.")
    ] = "loss",
    max_seeds: Annotated[
        int | None,
        typer.Option(
            help="If the runs were made by looks after 5, 10, 20, 40, 80 seeds: the most seeds that were planned.",
            show_default="the number of seeds was fixed",
        ),
    ] = None,
    diverged: Annotated[
        float | None, typer.Option(help="The value at which a run counts whose value is not finite.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON and nothing else.")] = False,
) -> None:
    """Say which alternative to take, and what it may cost, from runs that already exist."""
    from steepest.compare import Sequential, judge_runs, read_runs
    from steepest.compare._measure import measure_of

    measure = measure_of(rank_by, {})
    runs = read_runs(results, measure)
    most = max((len(each) for each in runs.values()), default=0)
    looks = () if max_seeds is not None else (max(most, 3),)
    plan = Sequential(max_seeds=max_seeds, margin=margin, looks=looks)
    found = judge_runs(runs, plan, measure=measure, diverged=diverged)
    if as_json:
        typer.echo(json.dumps(_plain({"verdict": str(found), **dataclasses.asdict(found)}), indent=2))
        return
    typer.echo(found.headline)
    for sentence in found.details:
        typer.echo(sentence)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
