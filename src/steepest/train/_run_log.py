"""The log of a program's run: lines of JSON in a file, which any process can append."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from steepest.errors import InvalidArgument

__all__ = ["RunLog", "is_first_rank"]


class RunLog:
    """What a run has reported and which of its options it has taken up.

    Each process has an object of its own on the same file. A line is appended in one write, so that lines of two
    processes do not mix. The file is deleted when the run has ended.

    Args:
        path: The file; it exists while the run lasts.

    Attributes:
        used: What the run has taken up, in the order in which it did: "optimizer", "init", ...
        reports: The reports: step, loss, metrics, state_bytes and time.
        watched: The fields of a `History` that a monitor has recorded.
        diverged: Whether a loss was not finite; then the last report has it.
        step_failed: Whether numbers that are not finite have ended the last step of an optimizer.
        refused: The error of the first report that was refused; None without one.
        began: The time at which the first optimizer was made, from a clock that all processes of a machine share; nan
            before.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.used: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.watched: dict[str, Any] = {}
        self.diverged = self.step_failed = False
        self.refused: InvalidArgument | None = None
        self.began = math.nan
        self._read = 0

    @property
    def is_open(self) -> bool:
        """Whether the run lasts."""
        return Path(self.path).exists()

    def use(self, what: str) -> None:
        """Take note, once, that the run has taken up an option."""
        if what not in self.used:
            self.used.append(what)
            self.write("used", what=what)

    def failed_step(self, failed: bool) -> None:
        """Take note, in any of several processes, whether the last step of an optimizer has failed."""
        if failed != self.step_failed:
            self.step_failed = failed
            self.write("step failed", anywhere=True, failed=failed)

    def refuse(self, error: InvalidArgument) -> None:
        """Take note of an error, which the program might hide."""
        self.write("refused", rule=error.rule, got=error.got, remedy=error.remedy)

    def write(self, kind: str, *, anywhere: bool = False, **content: Any) -> None:
        """Append a line, of several processes only in the first or anywhere; do nothing when the run has ended."""
        if not (anywhere or is_first_rank()):
            return
        line = json.dumps({"kind": kind, "time": time.monotonic(), **content}, default=str) + "\n"
        with contextlib.suppress(FileNotFoundError):
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            with open(file, "ab", buffering=0) as stream:  # noqa: PTH123 - a descriptor that creates no file
                stream.write(line.encode())

    def read(self) -> None:
        """Read the lines that were added since the last time."""
        lines: list[bytes] = []
        with contextlib.suppress(FileNotFoundError), Path(self.path).open("rb") as stream:
            stream.seek(self._read)
            lines = stream.readlines()
        for line in lines:
            if not line.endswith(b"\n"):  # another process is writing it
                break
            self._read += len(line)
            self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        kind, when = entry.pop("kind"), entry.pop("time")
        if kind == "used":
            if entry["what"] == "optimizer" and math.isnan(self.began):
                self.began = when
            self.used = list(dict.fromkeys([*self.used, entry["what"]]))
        elif kind == "report":
            self.reports.append({**entry, "time": when})
            self.diverged = self.diverged or entry["loss"] == math.inf
        elif kind == "watched":
            self.watched = entry
        elif kind == "step failed":
            self.step_failed = entry["failed"]
        elif self.refused is None:
            self.refused = InvalidArgument(**entry)


def is_first_rank() -> bool:
    """Return whether this process is the only one, or the first of those that torch.distributed or torchrun made."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"
