"""What may be said about a comparison, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from steepest.compare._plan import Cell
from steepest.compare._statistics import Pair

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison; prints as its sentence.

    Attributes:
        sentence: What may be said, and what may not.
        winner: The cell that beats every other on the final validation loss; None is undecided.
        pairs: Every two cells on both measures (see `compare_pairs`).
    """

    sentence: str
    winner: Cell | None
    pairs: tuple[Pair, ...]

    def __str__(self) -> str:
        return self.sentence


def judge(
    means: Mapping[Cell, float],
    median_steps: Mapping[Cell, float],
    pairs: Sequence[Pair],
    baseline: Cell,
    target: float,
    label: Callable[[Cell], str],
) -> Verdict:
    """Say what the pairs allow about the cell with the lowest mean loss.

    Args:
        means: Mean final validation loss of every cell.
        median_steps: Median steps to the target, infinite where it is missed.
        pairs: All pairs on both measures.
        baseline: The cell whose median best loss is the target.
        target: That loss.
        label: How a cell is called.
    """
    best = min(means, key=lambda cell: means[cell])
    if len(means) == 1:
        return Verdict(f"Only {label(best)} was run, so there is nothing to compare it with.", None, tuple(pairs))
    against = {p.b if p.a == best else p.a: p for p in pairs if p.measure == "loss" and best in (p.a, p.b)}
    beaten = [label(cell) for cell, pair in against.items() if pair.better == best]
    open_pairs = {cell: pair for cell, pair in against.items() if pair.better is None}
    value = f"{means[best]:.3g}"
    if not open_pairs:
        sentence = f"{label(best)} wins: it beats {_and(beaten)} on final validation loss (mean {value})."
    else:
        undecided = _and([f"{label(cell)} ({_more(pair)})" for cell, pair in open_pairs.items()])
        if beaten:
            sentence = (
                f"{label(best)} has the lowest final validation loss (mean {value}) and beats {_and(beaten)}; "
                f"undecided against {undecided}."
            )
        else:
            sentence = (
                f"Undecided: {label(best)} has the lowest mean final validation loss ({value}), "
                f"but beats no other: {undecided}."
            )
    winner = best if not open_pairs else None
    return Verdict(f"{sentence} {_about_steps(best, median_steps, pairs, baseline, target, label)}", winner, tuple(pairs))


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
        f"It reaches {goal} {_after(median_steps[best])}{sooner} "
        f"({label(baseline)} {_after(median_steps[baseline])})."
    )


def _after(steps: float) -> str:
    return "in fewer than half of its runs" if math.isinf(steps) else f"after {steps:.0f} steps in the median"


def _more(pair: Pair) -> str:
    if pair.interval.low == pair.interval.high == 0:
        return "the runs are the same"
    if pair.more_seeds is None:
        return "more than 1,000 more seeds would be needed"
    return f"about {pair.more_seeds} more seed{'s' if pair.more_seeds > 1 else ''} would settle it"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
