"""What a trial will cost, before it runs: the number of its runs, and its time from timed steps."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from steepest.compare._design import Cell, Design, Run
from steepest.compare._duration import about
from steepest.compare._protocol import chosen_grid_indices, final_analysis, scores_of, starts_of
from steepest.compare._run import RunContext
from steepest.compare._tuning import tried_grid_indices, tuning_runs
from steepest.tasks import Task
from steepest.train import Event, History, Start, Step, Validated, train

__all__ = ["Price", "price_of", "runs_left", "seconds_per_run"]

_LIMIT = 10.0  # seconds for all timed steps together
_STEPS = 20  # timed steps of an optimizer, where they are fast

Range = tuple[int, int]
"""The fewest and the most."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What is left to run of a trial, and about how long it takes; prints as a sentence.

    Attributes:
        tuning: The fewest and the most tuning runs; more than the budget while a best rate is at an edge.
        final: The fewest and the most final runs, if the trial stops at its first or at its last look.
        finished: The number of finished runs that are used again.
        seconds: The shortest and the longest time in seconds; None where nothing could be timed, as with a program
            before its first run.
        seconds_per_run: By the name of an alternative, the time of one run in seconds.
        workers: Runs in parallel.
    """

    tuning: Range
    final: Range
    finished: int
    seconds: tuple[float, float] | None
    seconds_per_run: Mapping[str, float]
    workers: int

    def __str__(self) -> str:
        again = f"; {self.finished} finished runs are used again" if self.finished else ""
        if not self.tuning[1] + self.final[1]:
            return f"Price: nothing is left to run{again}."
        parts = [f"{_range(self.tuning)} tuning runs"] if self.tuning[1] else []
        parts += [f"{_range(self.final)} final runs"] if self.final[1] else []
        workers = f"{self.workers} worker{'' if self.workers == 1 else 's'}"
        return f"Price: {' and '.join(parts)} on {workers}, {self._time()}{again}."

    def _time(self) -> str:
        if self.seconds is None:
            return "whose time is known after the first run"
        short, long = (about(seconds) for seconds in self.seconds)
        low, high = min(self.seconds_per_run.values()), max(self.seconds_per_run.values())
        each = f"{low:.2g} s" if high < 1.5 * low else f"{low:.2g} to {high:.2g} s"
        return f"about {short}{'' if short == long else f' to {long}'} of training ({each} per run)"


def price_of(context: RunContext, design: Design, histories: Mapping[Run, History], workers: int) -> Price:
    """Return what is left to run of a trial, and about how long it takes on so many workers."""
    tuning, final = runs_left(design, histories)
    left = {cell: (tuning[cell][0] + final[cell][0], tuning[cell][1] + final[cell][1]) for cell in design.cells}
    seconds = seconds_per_run(context, design, histories) if any(most for _, most in left.values()) else {}

    def within(end: int) -> float:
        return sum(left[cell][end] * each for cell, each in seconds.items()) / workers

    known = all(cell in seconds for cell, (_, most) in left.items() if most)
    return Price(
        tuning=_total(tuning),
        final=_total(final),
        finished=len(histories),
        seconds=None if not (known and seconds) else (within(0), within(1)),
        seconds_per_run={str(cell): each for cell, each in seconds.items()},
        workers=workers,
    )


def runs_left(design: Design, histories: Mapping[Run, History]) -> tuple[dict[Cell, Range], dict[Cell, Range]]:
    """Return by cell the fewest and the most tuning runs that are left, and the same of the final runs.

    Tuning tries as many rates as the budget has, up to twice as many while a best rate is at an edge. The final runs
    end at the first look or go on to the last one.
    """
    scores, starts = scores_of(design, histories), starts_of(design, histories)
    seeds, looks = design.budget.tuning_seeds, design.seeds.looks
    if not tuning_runs(design, scores):
        analysis, chosen = final_analysis(design, scores, starts), chosen_grid_indices(design, scores)
        done = {
            cell: sum(Run(cell, chosen[cell], seed) in scores for seed in design.final_seeds) for cell in design.cells
        }
        final = {
            cell: (max(0, analysis.next_look - done[cell]), looks[-1] - done[cell])
            if cell in analysis.needed
            else (0, 0)
            for cell in design.cells
        }
        return dict.fromkeys(design.cells, (0, 0)), final
    tuning: dict[Cell, Range] = {}
    for cell, tried in tried_grid_indices(design, scores).items():
        done_here = sum(Run(cell, n, seed) in scores for n in tried for seed in range(seeds))
        fewest = max(design.budget.rates, len(tried)) * seeds - done_here
        tuning[cell] = fewest, max(fewest, 2 * design.budget.rates * seeds - done_here)
    return tuning, dict.fromkeys(design.cells, (looks[0], looks[-1]))


def seconds_per_run(
    context: RunContext, design: Design, histories: Mapping[Run, History], *, limit: float = _LIMIT
) -> dict[Cell, float]:
    """Return by cell about how long a run takes, in seconds: as long as finished ones, or as timed steps.

    The first steps of each optimizer are timed, and a validation, on one thread as in any run. A program cannot be
    stopped after some steps; its cells without finished runs are left out, as is what fails.

    Args:
        context: What is run.
        design: Its cells.
        histories: The finished runs.
        limit: The seconds that all timed steps may take together, apart from one step and one validation each.
    """
    task = context.task
    found: dict[Cell, float] = {}
    timed: dict[str, float] = {}
    share = limit / len({cell.optimizer for cell in design.cells})
    for cell in design.cells:
        past = [each.duration for run, each in histories.items() if run.cell == cell and not each.diverged]
        if past:
            found[cell] = statistics.median(past)
        elif isinstance(task, Task):
            if cell.optimizer not in timed:
                timed[cell.optimizer] = _timed(context, task, cell, share)
            found[cell] = timed[cell.optimizer]
    return {cell: seconds for cell, seconds in found.items() if math.isfinite(seconds)}


def _timed(context: RunContext, task: Task, cell: Cell, limit: float) -> float:
    """Return about how long a run takes, from its first steps."""
    candidate = context.candidates[cell.optimizer]
    watch = _Stopwatch(limit)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(action="ignore"):  # the runs issue them too
            history = train(
                task,
                candidate.build,
                context.inits[cell.init],
                lr=candidate.lr,
                seed=0,
                steps=context.steps,
                schedule=context.schedule or "cosine",
                warmup=context.warmup,
                gradient=context.gradient,
                device=context.device,
                observe=watch,
            )
        return history.duration
    except _EnoughError:
        return watch.seconds()
    except Exception:  # the first run will fail in the same way, and says so as runs do
        return math.nan
    finally:
        torch.set_num_threads(threads)


class _EnoughError(Exception):
    """Ends a run whose steps are timed."""


class _Stopwatch:
    """An observer that times the first steps of a run, and ends it."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._begun = self._last = time.perf_counter()
        self._setup = self._validation = 0.0
        self._steps: list[float] = []
        self._start: Start | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            float(event.loss)  # waits for the device
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        if isinstance(event, Start):
            self._start, self._setup = event, passed
        elif isinstance(event, Validated):
            self._validation = passed
        elif isinstance(event, Step):
            self._steps.append(passed)
            is_timed = len(self._steps) > 1  # the first step allocates
            if (len(self._steps) > _STEPS and is_timed) or (is_timed and now > self._begun + self._limit):
                raise _EnoughError

    def seconds(self) -> float:
        """Return about how long the whole run would take."""
        assert self._start is not None
        step = statistics.median(self._steps[1:])
        return self._setup + (self._start.validations + 1) * self._validation + self._start.steps * step


def _total(of_cells: Mapping[Cell, Range]) -> Range:
    return sum(fewest for fewest, _ in of_cells.values()), sum(most for _, most in of_cells.values())


def _range(numbers: Range) -> str:
    low, high = (f"{number:,}" for number in numbers)
    return low if low == high else f"{low} to {high}"
