"""From the results of a comparison to its verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from steepest.compare._design import Cell, Design
from steepest.compare._measure import Measure
from steepest.compare._result.next_step import NextStep, open_differences, with_options
from steepest.compare._result.standing import Standing
from steepest.compare._result.verdict import Verdict, judge, no_verdict, places
from steepest.compare._sequential import Analysis, is_seedless

__all__ = ["conclude"]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a verdict follows from; see `Comparison`."""

    design: Design
    analysis: Analysis[Cell]
    final_values: Mapping[Cell, list[float]]
    starts: Mapping[Cell, list[float]]
    standings: Mapping[Cell, Standing]
    all_diverged: bool
    directions: Mapping[str, bool | None]
    usual_rates: Mapping[str, float]
    earlier_plans: int
    workers: int
    command: str
    label: Callable[[Cell], str]

    @property
    def measure(self) -> Measure:
        """What decides."""
        return self.design.measure


def conclude(results: Results) -> Verdict[Cell]:
    """Return the verdict of a results."""
    if results.all_diverged and len(results.design.cells) > 1:
        return no_verdict(
            "No verdict: every run of every alternative diverged.",
            "Look at the diagnoses, at the data, and whether smaller learning rates or another init help.",
        )
    margin = results.design.seeds.margin
    return judge(
        results.analysis,
        results.measure,
        results.label,
        next_step=_next_step(results),
        margin="" if margin is None else str(margin),
        same_start=[cell for cell, values in results.starts.items() if is_seedless(values)],
        remarks=_remarks(results),
    )


def _next_step(results: Results) -> NextStep | None:
    """Return what would settle what is undecided, or bring the regret down; None if nothing is left to settle."""
    analysis = results.analysis
    scores = {cell: [results.measure.natural(v) for v in values] for cell, values in results.final_values.items()}
    differences = open_differences(analysis, scores)
    found = NextStep.of(list(differences.values()), len(scores), analysis.margin, analysis.look)
    if found is None or analysis.choice is None:
        return None
    seconds = sum(
        (found.seeds - analysis.seeds[cell]) * results.standings[cell].seconds_per_run
        for cell in (analysis.choice, *differences)
    )
    is_new = found.seeds > results.design.seeds.looks[-1]
    return replace(
        found,
        minutes=seconds / 60 / results.workers,
        command=_command(results, found.seeds, is_new),
        is_new_plan=is_new,
    )


def _command(results: Results, seeds: int, is_new: bool) -> str:
    """Return the command that runs more seeds; within the plan, which time has ended, the same one resumes."""
    if not is_new:
        return with_options(results.command, {}, ["--at-most"]) if results.command else "compare(...), as before"
    if results.command:
        return with_options(results.command, {"--max-seeds": str(seeds)}, ["--seeds"])
    return f"compare(..., seeds=Sequential(max_seeds={seeds}))"


def _remarks(results: Results) -> list[str]:
    """Return sentences on what the verdict does not say by itself."""
    remarks = [*_other_measures(results), *_rates(results)]
    some = [s for s in results.standings.values() if 0 < s.diverged < s.seeds]
    remarks += [
        f"{s.diverged} of {s.seeds} runs of {results.label(s.cell)} diverged; no interval covers a failure so rare "
        "that these seeds have not shown it."
        for s in some
    ]
    remarks.append("The intervals are for the learning rates that tuning found, not for tuning itself.")
    if results.design.budget.tuning_seeds == 1:
        remarks.append("Tuning was quick, with one seed per learning rate: other rates may be better.")
    if results.earlier_plans:
        many = f"{results.earlier_plans} other plan{'s' if results.earlier_plans > 1 else ''}"
        remarks.append(f"{many} looked at some of these runs before: the 95% is for one plan, not for a chain of them.")
    return remarks


def _other_measures(results: Results) -> list[str]:
    """Say where loss and metric disagree on the first place."""
    rows = list(results.standings.values())
    choice, measure = results.analysis.choice, results.measure
    names = list(results.directions) if measure.name == "loss" else ["loss"]
    says: list[str] = []
    for name in names:
        higher = results.directions.get(name)
        values = {s.cell: s.loss if name == "loss" else s.metrics[name] for s in rows}
        if (name != "loss" and higher is None) or not all(map(math.isfinite, values.values())) or len(rows) < 2:
            continue
        of_other = places({cell: -value if higher else value for cell, value in values.items()})
        first = min(of_other, key=lambda cell: of_other[cell])
        if first == choice or choice is None or values[first] == values[choice]:
            continue
        own = places(results.analysis.means)
        shown = "validation loss" if name == "loss" else name.replace("_", " ")
        says.append(
            f"By {shown} {results.label(first)} comes first ({values[first]:.4g}, {results.label(choice)} "
            f"{values[choice]:.4g}), which is place {own[first]} by {measure.title}; that is exploration, to which the "
            "95% does not apply."
        )
    return says


def _rates(results: Results) -> list[str]:
    """Say which tuned learning rates need a look."""
    unusual = [s for s in results.standings.values() if s.lr_is_unusual]
    return [_about_rate(results, standing) for standing in unusual]


def _about_rate(results: Results, standing: Standing) -> str:
    usual = results.usual_rates[standing.cell.optimizer]
    return (
        f"The best learning rate of {results.label(standing.cell)}, {standing.lr:.2g}, is far from its usual "
        f"{usual:.2g}: look at its curve of learning rates."
    )
