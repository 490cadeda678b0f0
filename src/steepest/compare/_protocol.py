"""The protocol of a trial as a pure function from the finished runs to the next ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from steepest.compare._design import FIRST_SEED, Cell, Design, Run
from steepest.compare._sequential import Analysis, analyse
from steepest.compare._tuning import Scores, best_grid_index, mean_scores, tried_grid_indices, tuning_runs
from steepest.train import History

__all__ = [
    "chosen_grid_indices",
    "final_analysis",
    "final_scores",
    "next_runs",
    "scores_of",
    "starts_of",
    "worst_score",
]


def scores_of(design: Design, histories: Mapping[Run, History]) -> dict[Run, float]:
    """Return the last value of every run, of which smaller ones are better; infinite where it diverged."""
    return {run: design.measure.score(history) for run, history in histories.items()}


def starts_of(design: Design, histories: Mapping[Run, History]) -> dict[Run, float]:
    """Return the first value of every run, of which smaller ones are better; infinite where it is not finite."""
    return {run: design.measure.first_score(history) for run, history in histories.items()}


def next_runs(design: Design, scores: Scores, starts: Scores) -> list[Run]:
    """Return the runs that the protocol requires next, given the finished ones; none when it is complete.

    First every cell is tuned (see `tuning_runs`). Then its best rate is run with fresh seeds, until the looks at the
    results allow to stop (see `analyse`).

    Args:
        design: The design of the comparison.
        scores: The last values of the finished runs.
        starts: Their first values.

    Returns:
        The missing runs of the current round, or until the next look, in a fixed order.
    """
    if tuning := tuning_runs(design, scores):
        return tuning
    found = final_analysis(design, scores, starts)
    chosen = chosen_grid_indices(design, scores)
    runs = [Run(cell, chosen[cell], seed) for seed in design.final_seeds[: found.next_look] for cell in found.needed]
    if design.repeat:
        cell = next(iter(design.cells))
        runs.append(Run(cell, chosen[cell], FIRST_SEED, repeat=True))
    return [run for run in runs if run not in scores]


def chosen_grid_indices(design: Design, scores: Scores) -> dict[Cell, int]:
    """Return the best grid index of every cell, as tuning has found it."""
    return {
        cell: best_grid_index(mean_scores(design, cell, grid_indices, scores))
        for cell, grid_indices in tried_grid_indices(design, scores).items()
    }


def final_analysis(design: Design, scores: Scores, starts: Scores) -> Analysis[Cell]:
    """Return what the final runs allow, once tuning is complete."""
    worst = worst_score(design, scores, starts)
    worst = worst if math.isfinite(worst) else 0.0  # nothing has a finite value
    return analyse(final_scores(design, scores, worst), design.seeds, worst=worst)


def final_scores(design: Design, scores: Scores, worst: float) -> dict[Cell, list[float]]:
    """Return by cell the values of its final runs, in the order of the seeds, up to the first that is missing."""
    found: dict[Cell, list[float]] = {}
    for cell, grid_index in chosen_grid_indices(design, scores).items():
        found[cell] = []
        for seed in design.final_seeds:
            score = scores.get(Run(cell, grid_index, seed))
            if score is None:
                break
            found[cell].append(worst if math.isinf(score) else score)
    return found


def worst_score(design: Design, scores: Scores, starts: Scores) -> float:
    """Return the value of a diverged final run, which follows from tuning alone.

    It is the largest value at step 0 of any tuning run, or at the end of a tuning run at a chosen rate where that is
    larger: a run that diverged must not count as better than one that trained and got worse. It is infinite if none of
    these is finite.
    """
    chosen = chosen_grid_indices(design, scores)
    ends = [scores[Run(cell, n, seed)] for cell, n in chosen.items() for seed in range(design.budget.tuning_seeds)]
    first = [
        starts[Run(cell, n, seed)]
        for cell, tried in tried_grid_indices(design, scores).items()
        for n in tried
        for seed in range(design.budget.tuning_seeds)
    ]
    return max((value for value in (*first, *ends) if math.isfinite(value)), default=math.inf)
