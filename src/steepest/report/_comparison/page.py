"""The page of a comparison: one self-contained file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from steepest._figure import color
from steepest.compare import ALPHA, Cell, Comparison, Difference, Standing
from steepest.compare._duration import about
from steepest.compare._result.against import against
from steepest.features import spectra
from steepest.report._comparison.curves import counted, curves_of, over_what_counts
from steepest.report._comparison.tables import change_seen
from steepest.report._page.page import figure_json, write_page

__all__ = ["write_comparison_page"]


def write_comparison_page(comparison: Comparison, path: Path, command: str) -> Path:
    """Write the page of a comparison; return its path.

    Raises:
        OutputError: If the file cannot be written.
    """
    return write_page(path, "_comparison/report.html.jinja", _content(comparison, command))


def _content(comparison: Comparison, command: str) -> dict[str, Any]:
    standings = comparison.table()
    cells = list(comparison.design.cells)
    inits = list(dict.fromkeys(cell.init for cell in cells))
    verdict = comparison.verdict
    rows = [_row(comparison, s) for s in standings]
    informative = [each for each in verdict.differences if math.isfinite(each.low) and math.isfinite(each.high)]
    fastest = min(s.seconds_per_step for s in standings)
    return {
        "comparison": comparison,
        "verdict": verdict,
        "details": [each for each in verdict.details if each != str(verdict.next_step)],
        "choice": next((row for row in rows if row["standing"].cell == verdict.choice), None),
        "alpha": ALPHA,
        "rows": rows,
        "series": [{"name": comparison.label(cell), "color": color(i)} for i, cell in enumerate(cells)],
        "pairs": [_pair(comparison, pair) for pair in informative],
        "silent": len(verdict.differences) - len(informative),
        "differences": figure_json(comparison.differences().plot()) if len(cells) > 1 and verdict.choice else None,
        "curves": curves_of(comparison),
        "counted": counted(comparison),
        "evaluations": max(history.evaluations[-1] for history in comparison.histories.values()),
        "rates": figure_json(comparison.learning_rates().plot()),
        "inits": [_init_figures(comparison, init) for init in inits],
        "features": _features(comparison, standings[0].cell),
        "command": command,
        "compute": _compute(comparison),
        "edges": [comparison.label(s.cell) for s in standings if s.lr_on_edge],
        "fastest": fastest,
        "explored": [name for name in ["loss", *comparison.metric_names] if name != comparison.measure.name],
    }


def _compute(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the size of the model and the data, and the whole computation, as pairs of a name and a number."""
    histories = comparison.histories.values()
    return [
        *((name, f"{count:,}") for name, count in comparison.sizes.items()),
        ("runs", f"{len(histories):,}"),
        ("steps of all runs", f"{sum(history.steps[-1] for history in histories):,}"),
        *(
            [("evaluations of all runs", f"{sum(each.evaluations[-1] for each in histories):,}")]
            * bool(comparison.gradient)
        ),
        ("time of all runs", about(sum(history.duration for history in histories))),
    ]


def _init_figures(comparison: Comparison, init: str) -> dict[str, Any]:
    of_init = [cell for cell in comparison.design.cells if cell.init == init]
    shown = next((cell for cell in of_init if cell.optimizer == comparison.baseline), of_init[0])
    return {
        "name": init,
        "optimizer": shown.optimizer,
        "diagnoses": comparison.diagnoses(init),
        "norms": figure_json(over_what_counts(comparison, shown, comparison.gradient_norms(init).plot())),
        "layers": figure_json(over_what_counts(comparison, shown, comparison.layer_gradients(shown).plot())),
    }


def _features(comparison: Comparison, cell: Cell) -> dict[str, Any] | None:
    """Return the spectrum of the first in the ranking, or why there is none; None if no observer computed it."""
    found = change_seen(comparison, cell)
    if found is None:
        return None
    name = comparison.label(cell)
    if isinstance(found, str):
        return {"says": f"The tangent features of {name} cannot be shown: {found}", "figure": None}
    start, end = found.start, found.end
    return {
        "says": (
            f"With {name} the numerical rank of the {found.rows:,} x {found.columns:,} feature matrix is "
            f"{start.rank:,} at initialisation and {end.rank:,} at the end; its effective rank goes from "
            f"{start.effective_rank:.3g} to {end.effective_rank:.3g}, and the kernel changes by "
            f"{found.kernel_change:.2g} times its norm ({found.regime}; alignment {found.kernel_alignment:.2f})."
        ),
        "figure": figure_json(spectra(found).plot()),
        "key": [("initialisation", color(0), "dot"), ("end", color(1), "dot")],
        "examples": found.examples,
    }


def _row(comparison: Comparison, standing: Standing) -> dict[str, Any]:
    verdict, cell = comparison.verdict, standing.cell
    says = {"the choice": [verdict.choice], "beaten": verdict.beaten, "the same": verdict.same}
    says |= {f"dropped after {standing.eliminated_at} seeds": verdict.eliminated}
    from_choice = [] if verdict.choice is None else against(verdict.choice, verdict.differences, comparison.measure)
    return {
        "name": comparison.label(cell),
        "color": color(list(comparison.design.cells).index(cell)),
        "standing": standing,
        "against": next((each for each in from_choice if each.cell == cell and math.isfinite(each.low)), None),
        "says": next((words for words, cells in says.items() if cell in cells), "undecided" if verdict.choice else ""),
    }


def _pair(comparison: Comparison, pair: Difference[Cell]) -> dict[str, Any]:
    a, b = comparison.label(pair.a), comparison.label(pair.b)
    if pair.seedless:
        says = "undecided, neither depends on the seed"
    elif pair.better is None:
        says = "undecided"
    else:
        says = f"{a} beats {b}" if pair.better == pair.a else f"{b} beats {a}"
    estimate, ends = pair.estimate, (pair.low, pair.high)
    if comparison.measure.higher_is_better:
        estimate, ends = -estimate, (-pair.high, -pair.low)
    numbers = {"estimate": estimate, "low": ends[0], "high": ends[1], "p": pair.p, "seeds": pair.seeds}
    return {"a": a, "b": b, **numbers, "says": says}
