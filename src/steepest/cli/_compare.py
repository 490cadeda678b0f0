"""`steepest compare`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from steepest._check import at_least
from steepest._files import folder_name, require_writable
from steepest._importing import load_attribute
from steepest.cli._gradient import Gradient
from steepest.cli._stdout import prints_to_stderr
from steepest.errors import InvalidArgument, SteepestError

if TYPE_CHECKING:
    from steepest.compare import Comparison

__all__ = ["compare"]


def _folder(text: str) -> Path:
    if not text:
        raise typer.BadParameter("a folder must have a name.")
    return Path(text)


def compare(
    task: Annotated[
        str | None, typer.Option(help="{tasks}, or your own as MODULE:ATTR or FILE.py:ATTR.", show_default="digits")
    ] = None,
    program: Annotated[
        str | None, typer.Option(help="A training loop of your own, run(trial), as MODULE:FUNCTION; instead of a task.")
    ] = None,
    optimizers: Annotated[
        str, typer.Option(help="Names ({optimizers}, or of torch.optim) or MODULE:ATTR, separated by commas.")
    ] = "sgd,momentum,adamw,sign,muon",
    inits: Annotated[
        str | None,
        typer.Option(
            help="Names ({inits}) or MODULE:ATTR, separated by commas.",
            show_default="the task's",
        ),
    ] = None,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            help="Most final runs per alternative; the trial looks after 5, 10, 20, 40, 80 and stops when it can.",
            show_default="20",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help='"decided" runs up to 80 seeds, "same" also until it is known what is the same within the margin.',
            show_default="a choice",
        ),
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(help="A difference that does not matter: 2% of the choice's mean, or .02.", show_default="none"),
    ] = None,
    at_most: Annotated[
        str | None,
        typer.Option(help="Longest time of the trial, which then ends at its last look; for example 20m or 1h30m."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="A fixed number of final runs per alternative instead, at least 3.")
    ] = None,
    rank_by: Annotated[
        str | None,
        typer.Option(
            help="What decides: loss, metric, a metric's name, or max:NAME or min:NAME.",
            show_default="the task's, loss",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps per run.", show_default="the task's")] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Instead of steps, the most evaluations of the loss per run: with --gradient a step needs several.",
            show_default="those of the steps",
        ),
    ] = None,
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
    gradient: Gradient = None,
    rates: Annotated[
        int | None, typer.Option(help="Learning rates tried per alternative, at least 5.", show_default="7")
    ] = None,
    tuning_seeds: Annotated[int | None, typer.Option(help="Tuning runs per learning rate.", show_default="3")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tune with five learning rates and one seed each, and say so.")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Optimizer whose best value is the target.", show_default="adamw, else the first")
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many runs are left and about how long they take; run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Tune, run and compare optimizers and inits on one task or program; started again, it resumes where it stopped."""
    from steepest.compare import Budget, price
    from steepest.compare import compare as run
    from steepest.compare._queue.url import fixed_location
    from steepest.features import FeatureObserver
    from steepest.report import as_json as to_json
    from steepest.report import write
    from steepest.train import Program

    here = Path.cwd()  # a task may change it
    plan = _plan(seeds, max_seeds, until, margin)
    effort = _effort(quick, rates, tuning_seeds)
    length: dict[str, Any] = {"steps": steps, "evaluations": evaluations}
    budget = Budget(**length, schedule=_schedule(schedule), warmup=warmup, **effort)
    names = _names("optimizers", optimizers), None if inits is None else _names("inits", inits)
    console = Console(stderr=True, markup=False)
    command = _command(storage)
    place = None if storage is None else fixed_location(storage)
    with prints_to_stderr() if as_json else contextlib.nullcontext():
        loaded = _subject(task, program)
        shown = out or Path("runs") / folder_name(loaded.name)
        folder = here / shown
        options: dict[str, Any] = {
            "seeds": plan,
            "budget": budget,
            "rank_by": rank_by,
            "storage": folder / "study.db" if place is None else place,
            "workers": workers,
            "gradient": gradient,
            "device": device,
            "accept_edits": accept_edits,
        }
        if dry_run:
            typer.echo(price(loaded, *names, **options))
            return
        require_writable(folder)
        try:
            comparison = run(
                loaded,
                *names,
                **options,
                at_most=at_most,
                baseline=baseline,
                run_timeout=run_timeout,
                observers=None if isinstance(loaded, Program) else {"features": FeatureObserver},
                progress=True,
            )
        except KeyboardInterrupt:
            console.print(f"Stopped. Finished runs are kept; to resume: {command}", highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
        except SteepestError:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing is in it
            raise
    comparison = dataclasses.replace(comparison, command=command)
    write(comparison, folder, command)
    if as_json:
        typer.echo(json.dumps(to_json(comparison, command), indent=2))
    else:
        _show(comparison, shown / "report.html")


def _subject(task: str | None, program: str | None) -> Any:
    """Return the task or program that is meant."""
    from steepest.compare._subject import program_at, subject_of

    if program is None:
        return subject_of("digits" if task is None else task)
    if task is not None:
        raise InvalidArgument("--program must come without --task", got=f"--task {task}", remedy="Pass one of them.")
    return program_at(program)


def _plan(seeds: int | None, max_seeds: int | None, until: str | None, margin: str | None) -> Any:
    """Return how many seeds are run."""
    from steepest.compare import Sequential

    if seeds is None:
        return Sequential(max_seeds=max_seeds, until=until or "choice", margin=margin)  # pyright: ignore[reportArgumentType]
    if max_seeds is not None or until is not None:
        raise InvalidArgument(
            "--seeds must come without --max-seeds and --until",
            got=f"--seeds {seeds}",
            remedy="A fixed number of seeds is looked at once; leave --seeds out for a trial that stops when it can.",
        )
    return Sequential(looks=(at_least("--seeds", seeds, 3, most=100_000, remedy="Pass 10 or more."),), margin=margin)


def _effort(quick: bool, rates: int | None, tuning_seeds: int | None) -> dict[str, int]:
    """Return the rates and the seeds of tuning that are not the default."""
    given = {"rates": rates, "tuning_seeds": tuning_seeds}
    chosen = {name: value for name, value in given.items() if value is not None}
    return {**({"rates": 5, "tuning_seeds": 1} if quick else {}), **chosen}


def _command(storage: str | None) -> str:
    """Return the command line without a password, so that it can be shown and stored."""
    from steepest.compare import without_password

    words = sys.argv[1:]
    if storage:
        words = [word.replace(storage, without_password(storage)) for word in words]
    return shlex.join(["steepest", *words])


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
    metrics = comparison.metric_names
    measure = comparison.measure
    first = "loss" if measure.name == "loss" else measure.title
    others = [name for name in ["loss", *metrics] if name != measure.name]
    table = Table("", "rate", first, "95% interval", "seeds", *others, "to target", box=box.SIMPLE_HEAD)
    for s in comparison.table():
        cells: list[Any] = [
            comparison.label(s.cell),
            f"{s.lr:.3g}" + (" (edge)" if s.lr_on_edge else ""),
            f"{s.value.estimate:.4g}" + (f" ({s.diverged} diverged)" if s.diverged else ""),
            f"{s.value.low:.3g} to {s.value.high:.3g}",
            str(s.seeds),
            *(f"{s.loss if name == 'loss' else s.metrics[name]:.4g}" for name in others),
            "missed" if s.steps_to_target == float("inf") else f"{s.steps_to_target:.0f}",
        ]
        table.add_row(*cells)
    console.print(table)
    verdict = comparison.verdict
    console.print(verdict.headline, highlight=False, style="bold", soft_wrap=True)
    for sentence in verdict.details:
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(f"Report: {report}", highlight=False, soft_wrap=True)
