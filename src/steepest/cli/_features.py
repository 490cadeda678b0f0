"""`steepest features`."""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from steepest._check import at_least, in_range
from steepest.errors import InvalidArgument, SteepestError, TaskError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.optimizer import Optimizer

    from steepest.report import FeaturesReport
    from steepest.tasks import Task

__all__ = ["features"]

_SNAPSHOTS = 16
_ROWS = 1000
"""Outputs of all examples together that are linearised unless another number of examples is asked for."""

_COURSE: dict[str, Any] = {"width": 40, "depth": 2}
_COURSE_STEPS = 150_000


def features(
    task: Annotated[str, typer.Option(help="curve, digits, mnist5k, or your own as MODULE:ATTR.")] = "curve",
    width: Annotated[
        int | None, typer.Option(help="Units of a hidden layer.", show_default="40 for curve, else the task's")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="Hidden layers.", show_default="2 for curve, else the task's")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps.", show_default="150000 for curve, else the task's")
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate of SGD, constant.")] = 0.02,
    seed: Annotated[int, typer.Option(help="Decides the start and the order of the data.")] = 0,
    examples: Annotated[
        int | None,
        typer.Option(help="Training examples that are linearised.", show_default="all, up to 1000 outputs"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/TASK")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Train a network with SGD and show its features, their spectrum and rank, from initialisation to the end."""
    from steepest.compare import require_writable
    from steepest.report import FeaturesReport, Snapshots
    from steepest.train import train

    chosen = _task(task, width, depth)
    steps = (_COURSE_STEPS if task == "curve" else chosen.steps) if steps is None else steps
    _check_numbers(steps, lr, seed)
    chosen.check()
    *inputs, target = _examples(chosen, seed, examples)
    snapshots = Snapshots(tuple(inputs), target, steps * lr, _span(chosen))
    folder = out or Path("runs") / chosen.name
    require_writable(folder)
    console = Console(stderr=True, markup=False)
    try:
        with _optimizer(steps, console if console.is_terminal and not as_json else None) as optimizer:
            history = train(
                chosen,
                optimizer,
                chosen.init,
                lr=lr,
                seed=seed,
                steps=steps,
                schedule="constant",
                validations=_observed(steps),
                observe=snapshots.observe,
            )
        if not snapshots.found:
            raise TaskError(
                "the loss must be finite at the start", got=history.valid_loss[0], remedy="Try another init."
            )
    except (KeyboardInterrupt, SteepestError) as end:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is in it
        if isinstance(end, SteepestError):
            raise
        console.print("Stopped; nothing was written.")
        raise typer.Exit(130) from None
    report = FeaturesReport(
        snapshots=snapshots,
        task_name=chosen.name,
        losses=dict(zip(history.steps, history.valid_loss, strict=True)),
        settings={
            "parameters": f"{snapshots.linearization.shape[1]:,}",
            "examples": f"{len(target):,}",
            "SGD with learning rate": f"{lr:g}",
            "steps": f"{steps:,}",
            "minibatch": str(chosen.batch_size),
            "init": chosen.init,
            "seed": str(seed),
        },
        diverged=history.diverged,
        command=shlex.join(["steepest", *sys.argv[1:]]),
    )
    page = report.write(folder)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        _show(report, page)


def _task(name: str, width: int | None, depth: int | None) -> Task:
    from steepest.tasks import TASKS, load

    given = {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    for key, value in given.items():
        at_least(key, value, 1, remedy=f"Pass --{key} 1 or more.")
    if name not in TASKS:
        found = load(name)
        if given:
            raise InvalidArgument(
                f"{' and '.join(given)} must be left out with a task of your own",
                got=name,
                remedy="It has its own model.",
            )
        return found
    make: Callable[..., Task] = TASKS[name]
    return make(**({**_COURSE, **given} if name == "curve" else given))


def _check_numbers(steps: int, lr: float, seed: int) -> None:
    for name, value, least in (("steps", steps, 1), ("seed", seed, 0)):
        at_least(name, value, least, remedy=f"Pass --{name} {least} or more.")
    in_range("lr", lr, "(0, inf)", remedy="Pass for example --lr 0.02.")


def _examples(task: Task, seed: int, count: int | None) -> list[Tensor]:
    """Return some training examples, equally spaced in the data: inputs, and the target last."""
    import torch

    from steepest.linearize import Linearization

    size = task.examples
    if count is not None:
        at_least("examples", count, 1, most=size, remedy=f"Pass --examples up to the {size} for training.")
    else:
        outputs = Linearization(task.build(seed).eval(), tuple(task.take(torch.tensor([0]))[:-1]), check=False).outputs
        count = min(size, max(1, _ROWS // outputs))
    return list(task.take(torch.arange(count) * size // count))


def _span(task: Task) -> tuple[float, float] | None:
    """Return from where to where the data reach, if they are tensors of one number an example."""
    inputs: list[Tensor] = [data[0] for data in (task.train, task.valid) if isinstance(data, tuple)]
    if len(inputs) < 2 or any(x[0].numel() != 1 for x in inputs):
        return None
    return min(float(x.min()) for x in inputs), max(float(x.max()) for x in inputs)


def _observed(steps: int) -> list[int]:
    """Return the steps to look at beside the start: equally spaced in their logarithm, the first after a thousandth.

    >>> _observed(8)
    [1, 2, 3, 4, 5, 6, 7, 8]
    """
    first, count = max(1.0, steps / 1000), _SNAPSHOTS - 2
    return sorted({round(first * (steps / first) ** (i / count)) for i in range(count + 1)})


@contextlib.contextmanager
def _optimizer(steps: int, console: Console | None) -> Generator[Callable[[Any, float], Optimizer]]:
    """Yield a function that makes the optimizer, whose steps move a bar on the console."""
    import torch

    if console is None:
        yield lambda model, lr: torch.optim.SGD(model.parameters(), lr=lr)
        return
    columns = BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar, done = progress.add_task("", total=steps), itertools.count(1)

        def moved(*_: Any) -> None:
            step = next(done)
            if step % 100 == 0:
                progress.update(bar, completed=step)

        def make(model: Any, lr: float) -> Optimizer:
            sgd = torch.optim.SGD(model.parameters(), lr=lr)
            sgd.register_step_post_hook(moved)
            return sgd

        yield make


def _show(report: FeaturesReport, page: Path) -> None:
    console = Console(markup=False)
    table = Table("step", "loss", "rank", "effective rank", "kernel alignment", "kernel change", box=box.SIMPLE_HEAD)
    for record in report.as_json()["snapshots"]:
        numbers = (record[name] for name in ("effective_rank", "kernel_alignment", "kernel_change"))
        table.add_row(
            f"{record['step']:,}",
            f"{record['loss']:.4g}",
            str(record["rank"]),
            *(f"{number:.3g}" for number in numbers),
        )
    console.print(table)
    console.print(report.headline, highlight=False, style="bold")
    for sentence in report.details:
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(f"Page: {page}", highlight=False, soft_wrap=True)
