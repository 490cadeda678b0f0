"""The learning rate that is suggested, against the best one of a sweep: steepest's remedy and torch-lr-finder.

A diagnosis suggests a rate after a run with a wrong one; the range test is a run of its own, whose rate grows. Both are
made with a seed that the sweep does not use, on the held-out split.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.diagnose.learning_rates import CASES, Case, sweep
from tests.diagnose.runs import CRITERIA

from benchmarks.harness import Row, Table, installed
from steepest.diagnose import Diagnosis, Monitor

SPLIT = "held_out"
SEED = 7
WITHIN = 3.0
WHOLE = True
"""Whether to sweep all cases (five minutes), or one per family and optimizer."""

WRONG = {1e3: "learning_rate_too_high", 1e2: "learning_rate_too_high", 1e-3: "learning_rate_too_low"}
"""How many times the best rate a run has, and what its diagnosis should be."""

STEEPEST_GRADIENT, MINIMUM = "torch-lr-finder, steepest gradient", "torch-lr-finder, minimum / 10"
PEER = "torch_lr_finder"


@dataclass(frozen=True)
class Suggestion:
    """What is suggested for a case: nan where nothing is; and of a diagnosis its cause, and whether that is right."""

    best: float
    rate: float
    cause: str = ""
    right: bool | None = None

    @property
    def ratio(self) -> float:
        """Suggested over best."""
        return self.rate / self.best

    @property
    def good(self) -> bool:
        """Whether it is near enough."""
        return 1 / WITHIN <= self.ratio <= WITHIN


def run() -> tuple[Table, Table]:
    best = {case: sweep(case, SPLIT)["best"] for case in _cases()}
    found: dict[str, dict[Case, Suggestion]] = {
        _name(factor): {case: _after(case, factor, rate) for case, rate in best.items()} for factor in WRONG
    }
    if installed(PEER):
        tests = {case: _range_test(case) for case in best}
        found[STEEPEST_GRADIENT] = {case: Suggestion(best[case], tests[case][0]) for case in best}
        found[MINIMUM] = {case: Suggestion(best[case], tests[case][1]) for case in best}
    diagnosed = [suggestion for factor in WRONG for suggestion in found[_name(factor)].values()]
    rows = [_row(f"steepest, {factor:g} times the best", list(found[_name(factor)].values())) for factor in WRONG]
    rows.append(_row("steepest, all", diagnosed))
    for peer in (STEEPEST_GRADIENT, MINIMUM):
        rows.append(_row(peer, list(found[peer].values())) if peer in found else (peer, "not installed", *[""] * 5))
    return (
        Table(
            title="The learning rate to try",
            method=f"{len(best)} cases (MLPs, convolutional networks, transformers; gradient descent without and with "
            "momentum, Adam, AdamW; 100 or 120 steps), each with the best rate of a sweep: 13 rates of ratio "
            "sqrt(10), two seeds, least mean loss of the last tenth of the steps; the held-out split, whose data are "
            "not those on which the suggestion was fitted to networks of the same kinds. "
            "steepest: a run of the same length with another seed, at so many times the best rate, and the rate in "
            "the remedy of its diagnosis; none, where that names no learning rate. It rests on the run's first steps, "
            "so that different wrong rates of a case are no independent trials. torch-lr-finder: 100 "
            "iterations from 1e-7 to 10, smoothed by .05, its default suggestion and a common rule. Goal: within a "
            f"factor of {WITHIN:g} of the best in 80%. Spread is the median and the largest factor off, either way.",
            columns=(
                "suggested by",
                "runs",
                "cause right",
                "suggested",
                f"within {WITHIN:g}x",
                "of all runs",
                "spread",
            ),
            rows=rows,
            packages=("torch-lr-finder",),
        ),
        Table(
            title="The learning rate to try, by case",
            method="Suggested over best rate; the cause that was named instead, where none was suggested.",
            columns=("case", "best", *found),
            rows=[(case.label, f"{best[case]:.2g}", *(_cell(of[case]) for of in found.values())) for case in best],
        ),
    )


def _name(factor: float) -> str:
    return f"after {factor:g}x"


def _cases() -> list[Case]:
    if WHOLE:
        return CASES
    return list({(case.family, case.optimizer): case for case in reversed(CASES) if case.size == "small"}.values())


def _row(name: str, suggestions: Sequence[Suggestion]) -> Row:
    given = [s for s in suggestions if math.isfinite(s.rate)]
    good = sum(s.good for s in given)
    off = sorted(max(s.ratio, 1 / s.ratio) for s in given)
    right = [s.right for s in suggestions if s.right is not None]
    return (
        name,
        str(len(suggestions)),
        f"{sum(right)}" if right else "",
        str(len(given)),
        f"{good} ({good / len(given):.0%})" if given else "",
        f"{good / len(suggestions):.0%}",
        f"{statistics.median(off):.1f}, {off[-1]:.3g}" if off else "",
    )


def _cell(suggestion: Suggestion) -> str:
    return f"{suggestion.ratio:.2g}" if math.isfinite(suggestion.rate) else suggestion.cause


def _after(case: Case, factor: float, best: float) -> Suggestion:
    """Return what is suggested after a run whose rate is so many times the best."""
    said = _diagnose(case, factor * best)
    rate = re.search(r"learning rate of ([\d.e+-]+)", said.remedy) if said.cause in WRONG.values() else None
    return Suggestion(best, float(rate[1]) if rate else math.nan, said.cause, said.cause == WRONG[factor])


def _diagnose(case: Case, lr: float) -> Diagnosis:
    run = case.run(lr, SEED, SPLIT)
    with Monitor(run.model, run.optimizer) as monitor:
        run.train(monitor)
    return monitor.diagnosis()


def _range_test(case: Case) -> tuple[float, float]:
    """Return the peer's default suggestion, and a tenth of the rate at the least loss that it saw."""
    import matplotlib as mpl

    mpl.use("Agg")
    import torch_lr_finder
    from matplotlib.figure import Figure

    run = case.run(1e-3, SEED, SPLIT)
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        finder = torch_lr_finder.LRFinder(run.model, run.optimizer, CRITERIA[case.task])
        batches = torch_lr_finder.TrainDataLoaderIter(run.batches)
        finder.range_test(batches, start_lr=1e-7, end_lr=10, num_iter=100, smooth_f=0.05)
        try:
            _, steepest = finder.plot(ax=Figure().subplots(), suggest_lr=True)
        except RuntimeError:  # it has diverged before there were points enough
            steepest = math.nan
    losses, rates = finder.history["loss"], finder.history["lr"]
    return float(steepest), rates[losses.index(min(losses))] / 10
