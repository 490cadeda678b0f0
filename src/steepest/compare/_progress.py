"""The progress of a comparison: lines in a pipe, a bar on a terminal or in a notebook."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from html import escape
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

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
from steepest.compare._rounds import Rounds

__all__ = ["Lines", "Listener", "NotebookProgress", "RichProgress", "Silent", "listener_for"]


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


def listener_for(
    *, looks: Sequence[int] = (), higher_is_better: bool = False, console: Console | None = None
) -> Lines | NotebookProgress | RichProgress:
    """Return what shows the progress here: a bar in a notebook or on a terminal, else a line per round.

    Args:
        looks: The numbers of seeds after which the results are looked at.
        higher_is_better: Whether larger values of what is ranked by are better.
        console: Where to write; None for stderr.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if console is None and hasattr(shell, "kernel"):
        return NotebookProgress(looks=looks, higher_is_better=higher_is_better)
    console = console or Console(stderr=True, markup=False)
    kind = RichProgress if console.is_terminal else Lines
    return kind(console, looks=looks, higher_is_better=higher_is_better)


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

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class Lines(Silent):
    """A listener that writes a plain line per round of the trial and per message for the user; a context manager.

    Args:
        console: Where to write.
        looks: The numbers of seeds after which the results are looked at, ascending; empty if they are unknown.
        higher_is_better: Whether larger values of what is ranked by are better.
    """

    def __init__(self, console: Console, *, looks: Sequence[int] = (), higher_is_better: bool = False) -> None:
        self._console = instance("console", console, Console, "a rich.console.Console")
        self._rounds = Rounds(looks, higher_is_better=higher_is_better)
        self._is_waiting = False

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Take note of the finished runs."""
        self._rounds.known(losses, total)

    def started(self, run: Run) -> None:
        """Write a line if the run is the first of a round."""
        if self._rounds.started(run):
            self.noticed(f"{self._rounds.title}: {self._rounds.state}.")

    def waiting(self, reason: str) -> None:
        """Write the first reason of a wait."""
        if reason and not self._is_waiting:
            self.noticed(reason)
        self._is_waiting = bool(reason)

    def noticed(self, line: str) -> None:
        """Write the line."""
        self._console.print(line, highlight=False, soft_wrap=True)


class RichProgress:
    """A progress bar with the round, the time left, the present run and the best run so far; a context manager.

    Args:
        console: The terminal.
        looks: The numbers of seeds after which the results are looked at, ascending; empty if they are unknown.
        higher_is_better: Whether larger values of what is ranked by are better.
    """

    def __init__(self, console: Console, *, looks: Sequence[int] = (), higher_is_better: bool = False) -> None:
        self._rounds = Rounds(looks, higher_is_better=higher_is_better)
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
        """Name the round and the run."""
        self._rounds.started(run)
        self._progress.update(self._bar, description=f"{self._rounds.title}: {run}")

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Move the bar, and name the best run so far."""
        self._rounds.known(losses, total)
        best = self._rounds.best
        self._progress.update(self._bar, completed=len(losses), total=max(total, len(losses)), best=best)

    def noticed(self, line: str) -> None:
        """Write the line above the bar."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)

    def waiting(self, reason: str) -> None:
        """Show the reason in place of the run."""
        self._progress.update(self._bar, description=reason)


class NotebookProgress(Silent):
    """A progress bar in a notebook, in one output that is written again; needs no widgets. A context manager.

    Args:
        looks: The numbers of seeds after which the results are looked at, ascending; empty if they are unknown.
        higher_is_better: Whether larger values of what is ranked by are better.
    """

    _PAUSE = 0.5  # seconds between two updates, each of which is a message to the browser

    def __init__(self, *, looks: Sequence[int] = (), higher_is_better: bool = False) -> None:
        self._rounds = Rounds(looks, higher_is_better=higher_is_better)
        self._output: Any = None
        self._lines: list[str] = []
        self._reason = ""
        self._shown = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last state."""
        self._show(at_once=True)

    def known(self, losses: Mapping[Run, float], total: int) -> None:
        """Move the bar."""
        self._rounds.known(losses, total)
        self._show()

    def started(self, run: Run) -> None:
        """Name the round."""
        self._show(at_once=self._rounds.started(run))

    def noticed(self, line: str) -> None:
        """Write the line under the bar."""
        self._lines.append(line)
        self._show(at_once=True)

    def waiting(self, reason: str) -> None:
        """Show the reason."""
        self._reason = reason
        self._show()

    def _show(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self._shown + self._PAUSE:
            return
        self._shown = time.monotonic()
        done, total = self._rounds.done, max(self._rounds.total, 1)
        said = [self._reason or f"{self._rounds.title}: {self._rounds.state}", *self._lines]
        bar = f'<progress value="{done}" max="{total}" style="width: 16em"></progress> '
        page = {"text/html": bar + "<br>".join(map(escape, said)), "text/plain": "\n".join(said)}
        if self._output is None:
            # No dependency: whoever is in a notebook has it.
            display: Any = importlib.import_module("IPython.display").display
            self._output = display(page, raw=True, display_id=True)
        else:
            with contextlib.suppress(AttributeError):  # outside of a notebook, display has returned nothing
                self._output.update(page, raw=True)
