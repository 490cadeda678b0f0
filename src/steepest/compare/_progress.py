"""What a person sees while a comparison runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from steepest._check import instance
from steepest.compare._design import Run

__all__ = ["Lines", "Listener", "RichProgress", "Silent"]


@runtime_checkable
class Listener(Protocol):
    """Is told of every run that starts or ends."""

    def started(self, run: Run) -> None:
        """A run was handed to a worker."""
        ...

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """These runs are finished, of about `total`."""
        ...

    def noticed(self, line: str) -> None:
        """Something came up that a person should know; may come from another thread."""
        ...

    def waiting(self, reason: str) -> None:
        """Nothing goes on, for this reason; "" when it goes on. May come again and again."""
        ...


class Silent:
    """Says nothing."""

    def started(self, run: Run) -> None:
        """Say nothing."""

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Say nothing."""

    def noticed(self, line: str) -> None:
        """Say nothing."""

    def waiting(self, reason: str) -> None:
        """Say nothing."""


class Lines(Silent):
    """Writes what a person should know, a line each, and nothing else."""

    def __init__(self, console: Console) -> None:
        self._console = instance("console", console, Console, "a rich.console.Console")
        self._is_waiting = False

    def waiting(self, reason: str) -> None:
        """Write the first of many reasons."""
        if reason and not self._is_waiting:
            self.noticed(reason)
        self._is_waiting = bool(reason)

    def noticed(self, line: str) -> None:
        """Write the line."""
        self._console.print(line, highlight=False, soft_wrap=True)


class RichProgress:
    """A bar with how much is left, what is trained, and the best so far; a context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}", style="green"),
            TextColumn("{task.description}"),
            console=instance("console", console, Console, "a rich.console.Console"),
            transient=True,
        )
        self._bar = self._progress.add_task("starting", total=None, best="")

    def __enter__(self) -> RichProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, run: Run) -> None:
        """Name the run."""
        self._progress.update(self._bar, description=str(run))

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Move the bar, and name the best run so far."""
        best = ""
        if losses:
            run = min(losses, key=lambda run: losses[run])
            best = f"best {losses[run]:.4g} ({run.cell}, {run.lr:.2g})"
        self._progress.update(self._bar, completed=len(losses), total=max(total, len(losses)), best=best)

    def noticed(self, line: str) -> None:
        """Write the line above the bar."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)

    def waiting(self, reason: str) -> None:
        """Say it in place of the run."""
        self._progress.update(self._bar, description=reason)
