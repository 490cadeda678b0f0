"""The progress of a comparison, shown on a console."""

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
    """Receives the progress of a comparison."""

    def started(self, run: Run) -> None:
        """Take note that a run was given to a worker."""
        ...

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Take note of the losses of all finished runs, of about `total` runs."""
        ...

    def noticed(self, line: str) -> None:
        """Take note of a message for the user; may be called from another thread."""
        ...

    def waiting(self, reason: str) -> None:
        """Take note of the reason why the comparison waits; "" when it continues. May be called repeatedly."""
        ...


class Silent:
    """A listener that shows nothing."""

    def started(self, run: Run) -> None:
        """Do nothing."""

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Do nothing."""

    def noticed(self, line: str) -> None:
        """Do nothing."""

    def waiting(self, reason: str) -> None:
        """Do nothing."""


class Lines(Silent):
    """A listener that writes messages for the user, one line per message, and nothing else."""

    def __init__(self, console: Console) -> None:
        self._console = instance("console", console, Console, "a rich.console.Console")
        self._is_waiting = False

    def waiting(self, reason: str) -> None:
        """Write the first reason of a wait."""
        if reason and not self._is_waiting:
            self.noticed(reason)
        self._is_waiting = bool(reason)

    def noticed(self, line: str) -> None:
        """Write the line."""
        self._console.print(line, highlight=False, soft_wrap=True)


class RichProgress:
    """A progress bar with the time left, the present run and the best run so far; a context manager."""

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
        """Show the reason in place of the run."""
        self._progress.update(self._bar, description=reason)
