"""What an import adds to `import torch`: of steepest's packages, and of other libraries."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.harness import Row, Table, installed

ROUNDS = 3
MODULES = (
    "steepest",
    "steepest.norms",
    "steepest.optim",
    "steepest.estimators",
    "steepest.compare",
    "heavyball",
    "pytorch_optimizer",
    "torchopt",
    "evotorch",
)
GOALS = {"steepest.norms": "300", "steepest.optim": "300", "steepest.estimators": "300"}

_CHILD = """
import time
start = time.perf_counter(), time.process_time()
import torch
torch_at = time.perf_counter(), time.process_time()
import {module}
print(*(b - a for a, b in zip(start + torch_at, torch_at + (time.perf_counter(), time.process_time()))))
"""


def run() -> Table:
    present = [module for module in MODULES if installed(module)]
    taken: dict[str, list[tuple[float, ...]]] = {module: [] for module in present}
    for turn in range(-1, ROUNDS):
        for module in present:
            numbers = _import(module)
            if turn >= 0:
                taken[module].append(numbers)
    ours = {module: _medians(taken[module]) for module in present}
    torch_wall, torch_cpu = _medians([numbers for of_module in taken.values() for numbers in of_module])[:2]
    rows: list[Row] = [("torch itself", _ms(torch_cpu), _ms(torch_wall), "1.00", "")]
    for module in MODULES:
        if module not in ours:
            rows.append((module, "not installed", "", "", ""))
            continue
        _, _, wall, cpu = ours[module]
        rows.append((module, _ms(cpu), _ms(wall), f"{cpu / torch_cpu:.2f}", GOALS.get(module, "")))
    return Table(
        title="What an import adds to `import torch`",
        method=f"Each module is imported after torch in a new process, in turns, median of {ROUNDS} rounds after one "
        "that fills the page cache; the times are those of the second import alone.",
        columns=("import", "CPU ms", "wall ms", "CPU / `import torch`", "goal, ms <="),
        rows=rows,
        packages=("heavyball", "pytorch_optimizer", "torchopt", "evotorch"),
    )


def _import(module: str) -> tuple[float, ...]:
    """Return seconds on the clock and on a processor: of torch, then of the module."""
    command = [sys.executable, "-W", "ignore", "-c", _CHILD.format(module=module)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(map(float, out.split()[-4:]))


def _medians(rounds: list[tuple[float, ...]]) -> list[float]:
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"
