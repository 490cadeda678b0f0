"""Notices about the runs for the user."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import replace

from steepest.compare._design import Design, Run
from steepest.init import Default, Initializer
from steepest.tasks import Task
from steepest.train import History

__all__ = ["program_notices", "run_notices", "untouched_notices"]

_SHOWN = 4
_MOST_NOISE = 0.1  # of the spread between seeds


def untouched_notices(task: Task, inits: Mapping[str, Initializer]) -> list[str]:
    """Return a line with the parameters that the inits do not change, if an init is requested that fills weights."""
    filling = [name for name, scheme in inits.items() if not isinstance(scheme, Default)]
    left = [name for name, parameter in task.build(seed=0).named_parameters() if not parameter.requires_grad]
    if not (filling and left):
        return []
    names, shown = ", ".join(filling), ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
    return [f"{names}: {len(left)} parameters that need no gradient stay as the model made them ({shown})."]


def run_notices(histories: Mapping[Run, History], known: Collection[str]) -> list[str]:
    """Return the first remark of the runs of each optimizer, except of the known ones."""
    found: dict[str, str] = {}
    for run in sorted(histories):
        if run.cell.optimizer not in known:
            for remark in histories[run].remarks:
                found.setdefault(run.cell.optimizer, f"{run.cell.optimizer}: {remark}")
    return list(found.values())


def program_notices(design: Design, scores: Mapping[Run, float]) -> list[str]:
    """Return what the results of a program show about it: that it ignores its seed, or the learning rate.

    Args:
        design: The design; only of a program is a run repeated.
        scores: The last value of each finished run, infinite where it diverged.
    """
    return [*_about_seeds(scores), *_about_rates(design, scores)] if design.repeat else []


def _about_seeds(scores: Mapping[Run, float]) -> list[str]:
    """Compare the two runs of one seed with the spread between seeds."""
    lines: list[str] = []
    for again in (run for run in scores if run.repeat):
        once = replace(again, repeat=False)
        of_seeds = [scores[run] for run in scores if replace(run, seed=once.seed) == once]
        if once not in scores or len(of_seeds) < 2 or not all(map(math.isfinite, (*of_seeds, scores[again]))):
            continue
        difference, spread = abs(scores[once] - scores[again]), statistics.stdev(of_seeds)
        if difference > _MOST_NOISE * spread:
            lines.append(
                f"The program ignores its seed: two runs of {once} differ by {difference:.2g}, where the standard "
                f"deviation between seeds is {spread:.2g}. The intervals hold, but are wider than they need to be. "
                "Seed everything that draws random numbers from trial.seed."
            )
    return lines


def _about_rates(design: Design, scores: Mapping[Run, float]) -> list[str]:
    """Find optimizers of which no learning rate makes a difference."""
    lines: list[str] = []
    for cell in design.cells:
        of_seed: dict[int, set[float]] = {}
        for run, score in scores.items():
            if run.cell == cell and run.phase == "tuning":
                of_seed.setdefault(run.seed, set()).add(score)
        if of_seed and all(len(values) == 1 and math.isfinite(*values) for values in of_seed.values()):
            lines.append(f"{cell.optimizer} ends alike at every learning rate: tuning changes nothing.")
    return list(dict.fromkeys(lines))
