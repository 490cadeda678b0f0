"""`steepest train`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from steepest._files import folder_name, require_writable
from steepest.errors import InvalidArgument, SteepestError

if TYPE_CHECKING:
    from steepest.communication import GroupEvent
    from steepest.train import TrainingRun

__all__ = ["train"]

_MEASURING = 1.5
"""Seconds in which the schemes are timed for the page."""

_MOST_MEASURED = 4
"""Processes that do so."""


def train(
    task: Annotated[str, typer.Option(help="{tasks}, or your own as MODULE:ATTR or FILE.py:ATTR.")] = "digits",
    optimizer: Annotated[str, typer.Option(help="{optimizers}, a name of torch.optim, or MODULE:ATTR.")] = "adamw",
    init: Annotated[str | None, typer.Option(help="{inits}, or MODULE:ATTR.", show_default="the task's")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the optimizer's usual one, untuned")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.", show_default="the task's")] = None,
    schedule: Annotated[str, typer.Option(help="Learning rate schedule: {schedules}, or MODULE:FUNCTION.")] = "cosine",
    warmup: Annotated[str, typer.Option(help="Warm-up: a number of steps, or a share of the run as 5%.")] = "0",
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and of the data order.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Workers (ranks, each a process) that share each batch and average their gradients.")
    ] = 1,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="How workers average gradients: ring, parameter-server (a process of its own, or on worker R as "
            "parameter-server:R), all-to-all, all-reduce (the backend's own).",
            show_default="ring",
        ),
    ] = None,
    kill: Annotated[
        list[str] | None, typer.Option(help="Kill a worker: WORKER@STEP, or server@STEP. May be repeated.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Stop a worker's process: WORKER@STEP, or WORKER@STEP:SECONDS.")
    ] = None,
    slow: Annotated[
        list[str] | None, typer.Option(help="Slow a worker down: WORKER@STEP, or WORKER@STEPxFACTOR:STEPS.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Start a new worker for one that died.")] = False,
    device: Annotated[str, typer.Option(help="Device to train on, for example cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for the page.", show_default="runs/TASK")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Train one task once, alone or with several workers that survive each other's death, and write a page.

    Under torchrun its processes are the workers, and checkpoints in the folder let a restart continue.
    """
    grouped = workers != 1 or scheme is not None or kill or stop or slow or replace
    if grouped:
        from steepest.communication._processes import prepare

        # torch's own warnings of connections that break tell what the table of events tells.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        prepare("steepest.train", "steepest.optim", "torch._dynamo")  # while this process loads the task
    from steepest.compare._candidates import resolve_candidate
    from steepest.report import as_json as to_json
    from steepest.report import write
    from steepest.tasks import load
    from steepest.train import Fault
    from steepest.train._distributed.alone import train_alone
    from steepest.train._distributed.run import train_distributed
    from steepest.train._distributed.torchrun import is_under_torchrun, train_under_torchrun

    here = Path.cwd()  # a task may change it
    console = Console(stderr=True, markup=False)
    command = shlex.join(["steepest", *sys.argv[1:]])
    loaded = load(task)
    candidate = resolve_candidate(optimizer)
    chosen = _scheme(scheme)
    given = {"kill": kill, "stop": stop, "slow": slow}
    faults = [Fault.parse(kind, text) for kind, texts in given.items() for text in texts or ()]
    options: dict[str, Any] = {
        "lr": candidate.lr if lr is None else lr,
        "seed": seed,
        "steps": steps,
        "schedule": _attribute(schedule),
        "warmup": warmup,
        "device": device,
    }
    what = loaded, candidate.build, loaded.init if init is None else _attribute(init)
    shown = out or Path("runs") / folder_name(loaded.name)
    folder = here / shown
    require_writable(folder)
    under_torchrun = is_under_torchrun()
    if under_torchrun and (workers != 1 or faults or replace):
        raise InvalidArgument(
            "--workers, --kill, --stop, --slow and --replace must be left out under torchrun",
            got="one of them",
            remedy="torchrun --nproc-per-node sets the number of workers, and restarts all when one dies.",
        )

    def said(event: GroupEvent) -> None:
        if event.kind == "waiting":
            console.print(f"After step {event.step}: waiting ({event.detail})", highlight=False, soft_wrap=True)

    try:
        with _progress(console if console.is_terminal and not as_json else None) as advance:
            if under_torchrun:
                result = train_under_torchrun(
                    *what, **options, name=f"{task} {candidate.name}", scheme=chosen, folder=folder
                )
            elif grouped:
                group: dict[str, Any] = {"workers": workers, "scheme": chosen, "faults": faults, "replace": replace}
                result = train_distributed(*what, **options, **group, progress=advance, observe=said)
            else:
                result = train_alone(*what, **options, progress=advance)
    except (KeyboardInterrupt, SteepestError) as end:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is in it
        if isinstance(end, SteepestError):
            raise
        console.print("Stopped; nothing was written.")
        raise typer.Exit(130) from None
    if result is None:  # another rank's process writes it
        return
    result = dataclasses.replace(result, settings={**result.settings, "optimizer": candidate.name})
    if result.group is not None and not under_torchrun:
        result = _measured(result)
    page = write(result, folder, command)
    if as_json:
        typer.echo(json.dumps(to_json(result, command), indent=2))
    else:
        _show(result, shown / page.name)


def _attribute(name: str) -> Any:
    from steepest._importing import load_attribute

    return load_attribute(name) if ":" in name else name


def _scheme(text: str | None) -> Any:
    """Return the scheme that a name means."""
    from steepest._check import one_of
    from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring

    if text is not None and text.startswith("parameter-server:"):
        rank = text.partition(":")[2]
        if not rank.isdecimal():
            raise InvalidArgument(
                "--scheme parameter-server:R must end in a worker's number",
                got=text,
                remedy="For example --scheme parameter-server:0.",
            )
        return ParameterServer(int(rank))
    schemes = {"ring": Ring, "parameter-server": ParameterServer, "all-to-all": AllToAll, "all-reduce": AllReduce}
    return schemes[one_of("--scheme", text or "ring", schemes)]()


@contextlib.contextmanager
def _progress(console: Console | None) -> Generator[Callable[[int, int], object] | None]:
    """Yield a function of the steps taken and of all that advances a bar on the console."""
    if console is None:
        yield None
        return
    columns = BarColumn(bar_width=24), MofNCompleteColumn(), "steps", TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda taken, total: progress.update(bar, completed=taken, total=total)


def _measured(result: TrainingRun) -> TrainingRun:
    """Return the result with times of the schemes on this machine, unless they cannot be measured."""
    from steepest.communication import launch, measure_cluster

    group = result.group
    assert group is not None
    counts = list(range(2, min(max(group.workers, 2), _MOST_MEASURED) + 1))
    with contextlib.suppress(SteepestError, OSError):
        timed = functools.partial(measure_cluster, workers=counts, seconds=_MEASURING)
        found = launch(timed, counts[-1], timeout=20 * _MEASURING)[0]
        return dataclasses.replace(result, group=dataclasses.replace(group, measurements=found))
    return result


def _show(result: TrainingRun, page: Path) -> None:
    console = Console(markup=False)
    history, group = result.history, result.group
    if group is not None:
        for sentence in group.recoveries:
            console.print(sentence, highlight=False, soft_wrap=True)
        table = Table("exchange", "steps", "messages", "formula", "bytes", "formula", box=box.SIMPLE_HEAD)
        for row in group.traffic:
            counts = f"{row.messages:,.6g}", f"{row.expected_messages:,}"
            sizes = f"{row.bytes:,.12g}", f"{row.expected_bytes:,}"
            table.add_row(row.name, f"{row.steps:,}", *counts, *sizes)
        console.print(table)
    console.print(result.headline, highlight=False, style="bold", soft_wrap=True)
    if history.diagnosis is not None:
        console.print(str(history.diagnosis), highlight=False, soft_wrap=True)
    for remark in history.remarks:
        console.print(remark, highlight=False, soft_wrap=True)
    console.print(f"Page: {page}", highlight=False, soft_wrap=True)
