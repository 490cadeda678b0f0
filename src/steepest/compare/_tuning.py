"""Tuning as a pure function from the finished runs to the next ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from steepest.compare._design import Cell, Design, Run

__all__ = ["Scores", "best_grid_index", "is_edge", "mean_scores", "tried_grid_indices", "tuning_runs"]

_COARSE = 4  # half a decade
_FIRST = 5  # rates on the first grid

Scores = Mapping[Run, float]
"""The last value of the measure of each finished run, smaller ones being better; infinite where it diverged."""


def tuning_runs(design: Design, scores: Scores) -> list[Run]:
    """Return the tuning runs that the protocol requires next, given the finished ones; none when tuning is complete.

    Tuning proceeds in rounds. The first tries five rates half a decade apart in every cell. In each later round every
    cell gets exactly one more rate: beyond the edge if its best rate is at the edge of those tried, else between the
    best rate and its better neighbour. Rounds continue until the budget is spent and no cell's best rate is at an
    edge, up to twice the budget.
    """
    tried, complete = _rounds(design, scores)
    return [] if complete else [run for run in _tuning_runs(design, tried) if run not in scores]


def tried_grid_indices(design: Design, scores: Scores) -> dict[Cell, list[int]]:
    """Return by cell the grid indices that tuning has requested, ascending."""
    tried, _ = _rounds(design, scores)
    return {cell: sorted(grid_indices) for cell, grid_indices in tried.items()}


def _rounds(design: Design, scores: Scores) -> tuple[dict[Cell, list[int]], bool]:
    """Return the grid indices requested so far, and whether tuning is complete."""
    half = _FIRST // 2
    tried = {cell: [centre + _COARSE * k for k in range(-half, half + 1)] for cell, centre in design.cells.items()}
    while all(run in scores for run in _tuning_runs(design, tried)):
        means = {cell: mean_scores(design, cell, grid_indices, scores) for cell, grid_indices in tried.items()}
        spent = len(next(iter(tried.values())))
        on_edge = any(is_edge(of_cell) for of_cell in means.values())
        if (spent >= design.budget.rates and not on_edge) or spent >= 2 * design.budget.rates:
            return tried, True
        for cell, of_cell in means.items():
            tried[cell].append(_one_more(of_cell))
    return tried, False


def _tuning_runs(design: Design, tried: Mapping[Cell, list[int]]) -> list[Run]:
    rounds = zip(*tried.values(), strict=True)
    return [
        Run(cell, grid_index, seed)
        for grid_indices in rounds
        for seed in range(design.budget.tuning_seeds)
        for cell, grid_index in zip(tried, grid_indices, strict=True)
    ]


def mean_scores(design: Design, cell: Cell, grid_indices: list[int], scores: Scores) -> dict[int, float]:
    """Return the mean tuning score of each grid index, ascending; infinite where one of its runs diverged."""
    seeds = range(design.budget.tuning_seeds)
    return {n: math.fsum(scores[Run(cell, n, seed)] for seed in seeds) / len(seeds) for n in sorted(grid_indices)}


def best_grid_index(means: Mapping[int, float]) -> int:
    """Return the grid index of the lowest mean; among equal ones, the middle one."""
    lowest = min(means.values())
    ties = [grid_index for grid_index, mean in means.items() if mean == lowest]
    return ties[len(ties) // 2]


def is_edge(means: Mapping[int, float]) -> bool:
    """Return whether the best grid index is the smallest or largest tried, so that a better one may lie beyond."""
    best = best_grid_index(means)
    return (len(set(means.values())) > 1 and best in (min(means), max(means))) or math.isinf(min(means.values()))


def _one_more(means: Mapping[int, float]) -> int:
    """Return an untried grid index: beyond the edge if the best is there, else next to the best."""
    best, lowest, highest = best_grid_index(means), min(means), max(means)
    if math.isinf(means[best]):
        return lowest - _COARSE  # all diverged: smaller rates
    if is_edge(means):
        return lowest - _COARSE if best == lowest else highest + _COARSE
    grid_indices = sorted(means)
    i = grid_indices.index(best)
    neighbours = sorted((grid_indices[i - 1], grid_indices[i + 1]), key=lambda grid_index: means[grid_index])
    for neighbour in neighbours:
        middle = (best + neighbour) // 2
        if middle not in means:
            return middle
    # Both sides are as fine as the grid allows: try a rate further out.
    return highest + _COARSE
