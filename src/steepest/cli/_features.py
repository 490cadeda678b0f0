"""`steepest features`."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from steepest._files import folder_name, require_writable
from steepest.errors import SteepestError

if TYPE_CHECKING:
    from steepest.features import Features
    from steepest.train import Event, Observer

__all__ = ["features"]


def features(
    task: Annotated[str, typer.Option(help="{tasks}, or your own as MODULE:ATTR.")] = "curve",
    width: Annotated[
        int | None, typer.Option(help="Units per hidden layer.", show_default="40 for curve, else the task's")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="Number of hidden layers.", show_default="2 for curve, else the task's")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps.", show_default="150000 for curve, else the task's")
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate of SGD; it stays constant.")] = 0.02,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and of the data order.")] = 0,
    examples: Annotated[
        int | None,
        typer.Option(
            help="Training examples at which the network is linearised.", show_default="all, up to 1000 outputs"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/TASK")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Train a network with SGD and show its tangent features (NTK), with spectrum and rank, from start to end."""
    from steepest.features import features as run
    from steepest.report import as_json as to_json
    from steepest.report import write

    here = Path.cwd()  # a task may change it
    console = Console(stderr=True, markup=False)
    command = shlex.join(["steepest", *sys.argv[1:]])
    folder = here / (out or "runs")
    require_writable(folder)
    try:
        with _progress(console if console.is_terminal and not as_json else None) as observers:
            result = run(
                task, width=width, depth=depth, steps=steps, lr=lr, seed=seed, examples=examples, observe=observers
            )
    except (KeyboardInterrupt, SteepestError) as end:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is in it
        if isinstance(end, SteepestError):
            raise
        console.print("Stopped; nothing was written.")
        raise typer.Exit(130) from None
    shown = out or Path("runs") / folder_name(result.task_name)
    page = write(result, here / shown, command)
    if as_json:
        typer.echo(json.dumps(to_json(result, command), indent=2))
    else:
        _show(result, shown / page.name)


@contextlib.contextmanager
def _progress(console: Console | None) -> Generator[tuple[Observer, ...]]:
    """Yield the observers that advance a progress bar on the console."""
    from steepest.train import Start, Step

    if console is None:
        yield ()
        return
    columns = BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def moved(event: Event) -> None:
            if isinstance(event, Start):
                progress.update(bar, total=event.steps)
            elif isinstance(event, Step) and event.step % 100 == 99:
                progress.update(bar, completed=event.step + 1)

        yield (moved,)


def _show(result: Features, page: Path) -> None:
    console = Console(markup=False)
    table = Table("step", "loss", "rank", "effective rank", "kernel alignment", "kernel change", box=box.SIMPLE_HEAD)
    for record in result.as_dict()["snapshots"]:
        numbers = (record[name] for name in ("effective_rank", "kernel_alignment", "kernel_change"))
        table.add_row(
            f"{record['step']:,}",
            f"{record['loss']:.4g}",
            str(record["rank"]),
            *(f"{number:.3g}" for number in numbers),
        )
    console.print(table)
    console.print(result.fit, highlight=False, style="bold", soft_wrap=True)
    console.print(result.headline, highlight=False, style="bold", soft_wrap=True)
    for sentence in result.details:
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(f"Page: {page}", highlight=False, soft_wrap=True)
