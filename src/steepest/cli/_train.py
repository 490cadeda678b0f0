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
from steepest.cli._gradient import Gradient
from steepest.cli._stdout import prints_to_stderr
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
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Instead of steps, the most evaluations of the loss: with --gradient a step needs several.",
            show_default="those of the steps",
        ),
    ] = None,
    schedule: Annotated[str, typer.Option(help="Learning rate schedule: {schedules}, or MODULE:FUNCTION.")] = "cosine",
    warmup: Annotated[str, typer.Option(help="Warm-up: a number of steps, or a share of the run as 5%.")] = "0",
    gradient: Gradient = None,
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
    from steepest.report import as_json as to_json
    from steepest.report import write

    here = Path.cwd()  # a task may change it
    console = Console(stderr=True, markup=False)
    command = shlex.join(["steepest", *sys.argv[1:]])
    faults = {"kill": kill or [], "stop": stop or [], "slow": slow or []}
    grouped = workers != 1 or scheme is not None or replace or any(faults.values())
    with prints_to_stderr() if as_json else contextlib.nullcontext():
        if grouped:
            _begin_imports()
        options: dict[str, Any] = {
            "lr": lr,
            "seed": seed,
            "steps": steps,
            "evaluations": evaluations,
            "schedule": _attribute(schedule),
            "warmup": warmup,
            "gradient": gradient,
            "device": device,
        }
        run = _Run(task, optimizer, init, scheme, options)
        shown = out or Path("runs") / folder_name(run.task.name)
        folder = here / shown
        require_writable(folder)
        try:
            with _progress(console if console.is_terminal and not as_json else None) as advance:
                if _is_under_torchrun():
                    _refuse_under_torchrun(workers, replace, faults)
                    result = run.under_torchrun(folder)
                elif grouped:
                    result = run.with_workers(workers, faults, replace, advance, console)
                else:
                    result = run.alone(advance)
        except (KeyboardInterrupt, SteepestError) as end:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing is in it
            if isinstance(end, SteepestError):
                raise
            console.print("Stopped; nothing was written.")
            raise typer.Exit(130) from None
    if result is None:  # another rank's process writes it
        return
    page = write(result, folder, command)
    if as_json:
        typer.echo(json.dumps(to_json(result, command), indent=2))
    else:
        _show(result, shown / page.name)


class _Run:
    """A run as it was typed."""

    def __init__(
        self, task: str, optimizer: str, init: str | None, scheme: str | None, options: dict[str, Any]
    ) -> None:
        from steepest.compare._candidates import resolve_candidate
        from steepest.tasks import load

        self.task, self.candidate, self.scheme = load(task), resolve_candidate(optimizer), _scheme(scheme)
        self._names = f"{task} {self.candidate.name}"
        self._what = self.task, self.candidate.build, self.task.init if init is None else _attribute(init)
        self._options: dict[str, Any] = {**options, "lr": self.candidate.lr if options["lr"] is None else options["lr"]}

    def alone(self, advance: Callable[[int, int], object] | None) -> TrainingRun:
        """Train in this process."""
        from steepest.train._distributed.alone import train_alone

        return self._named(train_alone(*self._what, **self._options, progress=advance))

    def with_workers(
        self,
        workers: int,
        faults: dict[str, list[str]],
        replace: bool,
        advance: Callable[[int, int], object] | None,
        console: Console,
    ) -> TrainingRun:
        """Train with workers of this machine, and then time the schemes on it."""
        from steepest.train import Fault, train_distributed

        def said(event: GroupEvent) -> None:
            if event.kind == "waiting":
                console.print(f"After step {event.step}: waiting ({event.detail})", highlight=False, soft_wrap=True)

        result = train_distributed(
            *self._what,
            **self._options,
            workers=workers,
            scheme=self.scheme,
            faults=[Fault.parse(kind, text) for kind, texts in faults.items() for text in texts],
            replace=replace,
            progress=advance,
            observe=said,
        )
        return _measured(self._named(result))

    def under_torchrun(self, folder: Path) -> TrainingRun | None:
        """Train as one of torchrun's workers; return the result in rank 0."""
        from steepest.train._distributed.torchrun import train_under_torchrun

        place: dict[str, Any] = {"scheme": self.scheme, "folder": folder, "name": self._names}
        result = train_under_torchrun(*self._what, **self._options, **place)
        return None if result is None else self._named(result)

    def _named(self, result: TrainingRun) -> TrainingRun:
        return dataclasses.replace(result, settings={**result.settings, "optimizer": self.candidate.name})


def _begin_imports() -> None:
    """Let the process from which workers are forked import what they need, while this one loads the task."""
    from steepest.communication._processes import prepare

    # torch's own warnings of connections that break tell what the table of events tells.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    prepare("steepest.train", "steepest.optim", "torch._dynamo")


def _is_under_torchrun() -> bool:
    """Return whether torchrun, or a launcher that sets the same variables, has started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


def _refuse_under_torchrun(workers: int, replace: bool, faults: dict[str, list[str]]) -> None:
    given = {
        "--workers": workers != 1,
        "--replace": replace,
        **{f"--{kind}": bool(each) for kind, each in faults.items()},
    }
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise InvalidArgument(
            f"{wrong[0]} must be left out under torchrun",
            got=wrong[0],
            remedy="torchrun --nproc-per-node sets the number of workers, and restarts all when one dies.",
        )


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
