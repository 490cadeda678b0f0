"""The verdict of a comparison, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from steepest.compare._design import Cell
from steepest.compare._result.statistics import Pair

__all__ = ["Verdict", "all_diverged", "judge"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison; prints as its sentences.

    Attributes:
        headline: What may be said, in one sentence.
        details: Further sentences: the steps to the target, what is undecided, and how many seeds would settle it.
        winner: The cell that beats every other on the final validation loss; None is undecided.
        pairs: All pairs of cells on both measures (see `compare_pairs`).
    """

    headline: str
    details: tuple[str, ...]
    winner: Cell | None
    pairs: tuple[Pair, ...]

    def __str__(self) -> str:
        return " ".join((self.headline, *self.details))


def judge(
    means: Mapping[Cell, float],
    median_steps: Mapping[Cell, float],
    pairs: Sequence[Pair],
    baseline: Cell,
    target: float,
    label: Callable[[Cell], str],
    same_start: Collection[Cell] = (),
) -> Verdict:
    """Say what the pairs allow about the cell with the lowest mean loss.

    Args:
        means: Mean final validation loss of every cell.
        median_steps: Median steps to the target, infinite where it is missed.
        pairs: All pairs on both measures.
        baseline: The cell whose median best loss is the target.
        target: That loss.
        label: The name of a cell in reports.
        same_start: The cells whose losses before training do not depend on the seed.
    """
    best = min(means, key=lambda cell: means[cell])
    if len(means) == 1:
        return Verdict(f"Only {label(best)} was run, so there is nothing to compare it with.", (), None, tuple(pairs))
    against = {p.b if p.a == best else p.a: p for p in pairs if p.measure == "loss" and best in (p.a, p.b)}
    if fixed := [cell for cell, pair in against.items() if pair.seedless]:
        return _without_seeds([best, *fixed], means, pairs, label, same_start)
    beaten = [label(cell) for cell, pair in against.items() if pair.better == best]
    undecided = [cell for cell, pair in against.items() if pair.better is None]
    value = f"{means[best]:.3g}"
    if not undecided:
        headline = f"{label(best)} beats {_and(beaten)} on final validation loss (mean {value})."
    elif beaten:
        others = _and([label(cell) for cell in undecided])
        headline = (
            f"{label(best)} has the lowest final validation loss (mean {value}) and beats {_and(beaten)}; "
            f"against {others} it is undecided."
        )
    else:
        headline = f"Undecided: {label(best)} has the lowest mean final validation loss ({value}), but beats no other."
    details = [_about_steps(best, median_steps, pairs, baseline, target, label)]
    if undecided:
        needs = ", ".join(f"{_more(against[cell])} ({label(cell)})" for cell in undecided)
        details.append(f"More seeds that would settle it, if the differences stay as they are: {needs}.")
    return Verdict(headline, tuple(details), None if undecided else best, tuple(pairs))


def all_diverged(pairs: Sequence[Pair] = ()) -> Verdict:
    """Return the verdict that every run diverged, so that nothing can be compared."""
    return Verdict(
        "No verdict: every run of every alternative diverged.",
        ("Look at the diagnoses, at the data, and whether smaller learning rates or another init help.",),
        None,
        tuple(pairs),
    )


def _without_seeds(
    cells: list[Cell],
    means: Mapping[Cell, float],
    pairs: Sequence[Pair],
    label: Callable[[Cell], str],
    same_start: Collection[Cell],
) -> Verdict:
    """Return the verdict that losses do not vary with the seed, so that any difference would look certain."""
    names = _and([label(cell) for cell in cells])
    if all(cell in same_start for cell in cells):
        headline = f"No verdict: the runs of {names} do not depend on the seed, so any difference would look certain."
        detail = (
            "Their losses agree to a millionth across seeds, at the start and at the end. Draw the initial weights, "
            "the order of the data or the noise from torch's global generator, which the trial seeds; set no seed in "
            "the task."
        )
    else:
        headline = f"No verdict: {names} each end at one loss whatever the seed, so any difference would look certain."
        ends = ", ".join(f"{means[cell]:.6g} ({label(cell)})" for cell in cells)
        detail = f"Losses that agree to a millionth across seeds give no scale for a difference. The losses: {ends}."
    return Verdict(headline, (detail,), None, tuple(pairs))


def _about_steps(
    best: Cell,
    median_steps: Mapping[Cell, float],
    pairs: Sequence[Pair],
    baseline: Cell,
    target: float,
    label: Callable[[Cell], str],
) -> str:
    goal = f"the target {target:.3g} (the median best of {label(baseline)})"
    if best == baseline:
        return f"It reaches {goal} {_after(median_steps[best])}."
    pair = next(p for p in pairs if p.measure == "steps" and {p.a, p.b} == {best, baseline})
    sooner = {None: "; which is sooner is undecided", best: ", sooner", baseline: ", later"}[pair.better]
    return (
        f"It reaches {goal} {_after(median_steps[best])}{sooner} ({label(baseline)} {_after(median_steps[baseline])})."
    )


def _after(steps: float) -> str:
    return "in at most half of its runs" if math.isinf(steps) else f"after {steps:.0f} steps in the median"


def _more(pair: Pair) -> str:
    if pair.interval.low == pair.interval.high == 0:
        return "none, the runs are the same"
    return "more than 1,000" if pair.more_seeds is None else f"about {pair.more_seeds}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
