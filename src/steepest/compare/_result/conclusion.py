"""From the results of a comparison to its verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from steepest.compare._design import Cell
from steepest.compare._plan import LOOKS
from steepest.compare._result.intervals import bound_after, seeds_to_settle
from steepest.compare._result.next_step import NextStep, with_options
from steepest.compare._result.standing import Standing
from steepest.compare._result.verdict import Verdict, judge, no_verdict, places
from steepest.compare._sequential import is_seedless

if TYPE_CHECKING:
    from steepest.compare._result.comparison import Comparison

__all__ = ["conclude"]


def conclude(comparison: Comparison) -> Verdict[Cell]:
    """Return the verdict of a comparison."""
    if comparison.all_diverged and len(comparison.design.cells) > 1:
        return no_verdict(
            "No verdict: every run of every alternative diverged.",
            "Look at the diagnoses, at the data, and whether smaller learning rates or another init help.",
        )
    margin = comparison.design.seeds.margin
    starts = {
        cell: [comparison.measure.first_score(history) for history in comparison.final_histories(cell)]
        for cell in comparison.design.cells
    }
    return judge(
        comparison.analysis,
        comparison.measure,
        comparison.label,
        next_step=_next_step(comparison),
        margin="" if margin is None else str(margin),
        same_start=[cell for cell, values in starts.items() if is_seedless(values)],
        remarks=_remarks(comparison),
    )


def _next_step(comparison: Comparison) -> NextStep | None:
    """Return what would settle what is undecided, or bring the regret down; None if nothing is left to settle."""
    analysis, natural = comparison.analysis, comparison.measure.natural
    choice, values = analysis.choice, comparison.final_values
    if choice is None or analysis.regret <= analysis.margin:
        return None
    undecided = [k for k in values if k not in (choice, *analysis.eliminated) and analysis.upper[choice, k] > 0]
    differences = {
        cell: [natural(k) - natural(a) for k, a in zip(values[cell], values[choice], strict=False)]
        for cell in undecided
    }
    differences = {cell: each for cell, each in differences.items() if any(each)}
    if not differences:  # all the same, seed by seed
        return None
    needed = [seeds_to_settle(each, len(values), margin=analysis.margin) for each in differences.values()]
    enough = [seeds for seeds in needed if seeds is not None]
    settles = len(enough) == len(needed)
    seeds = max(enough) if settles else max([LOOKS[-1], *enough])
    if seeds <= analysis.look:
        return None
    seconds = sum(
        (seeds - analysis.seeds[cell]) * comparison.standings[cell].seconds_per_run for cell in (choice, *differences)
    )
    return NextStep(
        seeds=seeds,
        settles=settles,
        regret=max(0.0, *(bound_after(each, len(values), seeds) for each in differences.values())),
        minutes=seconds / 60 / comparison.workers,
        command=_command(comparison, seeds),
    )


def _command(comparison: Comparison, seeds: int) -> str:
    if comparison.command:
        return with_options(comparison.command, {"--max-seeds": str(seeds)}, ["--seeds"])
    return f"compare(..., seeds=Sequential(max_seeds={seeds}))"


def _remarks(comparison: Comparison) -> list[str]:
    """Return sentences on what the verdict does not say by itself."""
    remarks = [*_other_measures(comparison), *_rates(comparison)]
    some = [s for s in comparison.standings.values() if 0 < s.diverged < s.seeds]
    remarks += [
        f"{s.diverged} of {s.seeds} runs of {comparison.label(s.cell)} diverged; no interval covers a failure so rare "
        "that these seeds have not shown it."
        for s in some
    ]
    remarks.append("The intervals are for the learning rates that tuning found, not for tuning itself.")
    if comparison.earlier_plans:
        many = f"{comparison.earlier_plans} other plan{'s' if comparison.earlier_plans > 1 else ''}"
        remarks.append(f"{many} looked at some of these runs before: the 95% is for one plan, not for a chain of them.")
    return remarks


def _other_measures(comparison: Comparison) -> list[str]:
    """Say where loss and metric disagree on the first place."""
    rows = list(comparison.standings.values())
    choice, measure = comparison.analysis.choice, comparison.measure
    names = comparison.metric_names if measure.name == "loss" else ["loss"]
    says: list[str] = []
    for name in names:
        higher = comparison.directions.get(name)
        values = {s.cell: s.loss if name == "loss" else s.metrics[name] for s in rows}
        if (name != "loss" and higher is None) or not all(map(math.isfinite, values.values())) or len(rows) < 2:
            continue
        of_other = places({cell: -value if higher else value for cell, value in values.items()})
        first = min(of_other, key=lambda cell: of_other[cell])
        if first == choice or choice is None or values[first] == values[choice]:
            continue
        own = places(comparison.analysis.means)
        shown = "validation loss" if name == "loss" else name.replace("_", " ")
        says.append(
            f"By {shown} {comparison.label(first)} comes first ({values[first]:.4g}, {comparison.label(choice)} "
            f"{values[choice]:.4g}), which is place {own[first]} by {measure.title}; that is exploration, to which the "
            "95% does not apply."
        )
    return says


def _rates(comparison: Comparison) -> list[str]:
    """Say which tuned learning rates need a look."""
    unusual = [s for s in comparison.standings.values() if s.lr_is_unusual]
    return [_about_rate(comparison, standing) for standing in unusual]


def _about_rate(comparison: Comparison, standing: Standing) -> str:
    usual = comparison.usual_rates[standing.cell.optimizer]
    return (
        f"The best learning rate of {comparison.label(standing.cell)}, {standing.lr:.2g}, is far from its usual "
        f"{usual:.2g}: look at its curve of learning rates."
    )
