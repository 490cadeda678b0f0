"""`steepest compare`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from steepest._files import folder_name, require_writable
from steepest._importing import load_attribute
from steepest.errors import InvalidArgument, SteepestError

if TYPE_CHECKING:
    from steepest.compare import Comparison

__all__ = ["compare"]


def _folder(text: str) -> Path:
    if not text:
        raise typer.BadParameter("a folder must have a name.")
    return Path(text)


def compare(
    task: Annotated[str, typer.Option(help="{tasks}, or your own as MODULE:ATTR.")] = "digits",
    optimizers: Annotated[
        str, typer.Option(help="Names ({optimizers}) or MODULE:Class, separated by commas.")
    ] = "sgd,momentum,adamw,sign,muon",
    inits: Annotated[
        str | None,
        typer.Option(
            help="Names ({inits}), separated by commas.",
            show_default="the task's",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Final runs per alternative, one per seed; at least 3.")] = 10,
    steps: Annotated[int | None, typer.Option(help="Training steps per run.", show_default="the task's")] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Learning rate schedule: {schedules}, or your own function of progress as MODULE:FUNCTION.",
            show_default="cosine",
        ),
    ] = None,
    warmup: Annotated[
        str, typer.Option(help="Warm-up before the schedule: a number of steps, or a share of the run as 5%.")
    ] = "0",
    rates: Annotated[int, typer.Option(help="Learning rates tried per alternative, at least 5.")] = 7,
    baseline: Annotated[
        str | None, typer.Option(help="Optimizer whose best loss is the target.", show_default="adamw, else the first")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Any Optuna storage URL. Set one with a password in the environment: no process list shows it.",
            envvar="STEEPEST_STORAGE",
            show_default="sqlite:///OUT/study.db",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs in parallel, each on one thread.")] = 2,
    run_timeout: Annotated[
        str | None,
        typer.Option(
            help="Longest time of a run, for example 90s, 10m or 1h30m; a run that hangs is tried once more.",
            show_default="20x the median of its alternative",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to train on, for example cuda.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results.", show_default="runs/TASK", parser=_folder, metavar="PATH"),
    ] = None,
    accept_edits: Annotated[
        bool, typer.Option("--accept-edits", help="Reuse the runs from before the last edit of the task.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Tune, run and compare optimizers and inits on one task; started again, it resumes where it stopped."""
    from steepest.compare import Budget, Lines, RichProgress
    from steepest.compare import compare as run
    from steepest.compare._queue.url import fixed_location
    from steepest.features import FeatureObserver
    from steepest.report import as_json as to_json
    from steepest.report import write
    from steepest.tasks import load

    here = Path.cwd()  # a task may change it
    names = _names("optimizers", optimizers), None if inits is None else _names("inits", inits)
    console = Console(stderr=True, markup=False)
    progress = RichProgress(console) if console.is_terminal and not as_json else None
    command = _command(storage)
    place = None if storage is None else fixed_location(storage)
    with _prints_to_stderr() if as_json else contextlib.nullcontext():
        loaded = load(task)
        shown = out or Path("runs") / folder_name(loaded.name)
        folder = here / shown
        require_writable(folder)
        try:
            with progress or contextlib.nullcontext():
                comparison = run(
                    loaded,
                    *names,
                    seeds=seeds,
                    budget=Budget(steps=steps, rates=rates, schedule=_schedule(schedule), warmup=warmup),
                    baseline=baseline,
                    storage=folder / "study.db" if place is None else place,
                    workers=workers,
                    run_timeout=run_timeout,
                    device=device,
                    accept_edits=accept_edits,
                    observers={"features": FeatureObserver},
                    listener=progress or Lines(console),
                )
        except KeyboardInterrupt:
            console.print(f"Stopped. Finished runs are kept; to resume: {command}", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        except SteepestError:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing is in it
            raise
    write(comparison, folder, command)
    if as_json:
        typer.echo(json.dumps(to_json(comparison, command), indent=2))
    else:
        _show(comparison, shown / "report.html")


def _command(storage: str | None) -> str:
    """Return the command line without a password, so that it can be shown and stored."""
    from steepest.compare import without_password

    words = sys.argv[1:]
    if storage:
        words = [word.replace(storage, without_password(storage)) for word in words]
    return shlex.join(["steepest", *words])


@contextlib.contextmanager
def _prints_to_stderr() -> Generator[None, None, None]:
    """Keep what a task prints, here or in other processes, out of stdout."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # one of the two is closed
            sys.stdout.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _schedule(name: str | None) -> Any:
    return load_attribute(name) if name and ":" in name else name


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InvalidArgument(
            f"--{option} must be names separated by commas", got=text, remedy="For example --optimizers sgd,adamw."
        )
    return names


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
