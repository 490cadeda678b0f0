"""Timing in turns, and the tables that come of it."""

from __future__ import annotations

import datetime
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

Row = tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """Something to time: `run` is timed, `prepare` is called before it and is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Seconds:
    """What one candidate took, a number a round: time of this process on a processor, and time on the clock."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def interleave(candidates: Mapping[str, Candidate], rounds: int, warm_up: bool = True) -> dict[str, Seconds]:
    """Time the candidates in turns, after one round that does not count; each round starts one further on."""
    seconds = {name: Seconds() for name in candidates}
    names = list(candidates)
    for turn in range(-1 if warm_up else 0, rounds):
        first = turn % len(names) if names else 0
        for name in names[first:] + names[:first]:
            candidates[name].prepare()
            wall, cpu = time.perf_counter(), time.process_time()
            candidates[name].run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if turn >= 0:
                seconds[name].cpu.append(cpu)
                seconds[name].wall.append(wall)
    return seconds


def milliseconds(seconds: Sequence[float], per: int = 1, digits: int = 1) -> str:
    """Return the median over the rounds in milliseconds."""
    return f"{statistics.median(seconds) * 1e3 / per:.{digits}f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median over the rounds of ours / theirs, with its quartiles."""
    low, middle, high = statistics.quantiles(
        (a / b for a, b in zip(ours, theirs, strict=True)), n=4, method="inclusive"
    )
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def installed(module: str) -> bool:
    """Return whether a peer is there."""
    return importlib.util.find_spec(module) is not None


@dataclass(frozen=True, kw_only=True)
class Table:
    """One subject's result; prints as Markdown.

    Attributes:
        title: What was measured.
        method: How, in one sentence.
        columns: Their heads.
        rows: Their cells, as text.
        packages: The distributions whose versions matter beside steepest's, Python's and torch's.
    """

    title: str
    method: str
    columns: Row
    rows: Sequence[Row]
    packages: Row = ()

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        head, *body = (
            "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines
        )
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        measured = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; {_hardware()}; {_versions(self.packages)}."
        return "\n".join((f"# {self.title}", "", self.method, "", head, rule, *body, "", f"Measured {measured}", ""))


def _versions(packages: Row) -> str:
    found = [f"Python {platform.python_version()}"]
    for package in ("steepest", "torch", *packages):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def _hardware() -> str:
    """Return processor, cores and instructions; whether there are bf16 ones decides much."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    of = {key.strip(): value.strip() for key, value in fields.items()}
    name = of.get("model name") or platform.processor() or platform.machine()
    bf16 = "bf16" in of.get("flags", "")
    return (
        f"{name}, {os.cpu_count()} cores, one thread, {torch.backends.cpu.get_cpu_capability()}, "
        f"{'with' if bf16 else 'no'} bf16 instructions, {platform.system()}"
    )
