"""The page of a comparison: one self-contained file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steepest._figure import color
from steepest.compare import ALPHA, Cell, Comparison, Difference, Standing
from steepest.features import spectra
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
    per_init = [_init_figures(comparison, init) for init in inits]
    return {
        "comparison": comparison,
        "verdict": comparison.verdict,
        "alpha": ALPHA,
        "standings": [_row(comparison, s) for s in standings],
        "series": [{"name": comparison.label(cell), "color": color(i)} for i, cell in enumerate(cells)],
        "pairs": [_pair(comparison, pair) for pair in comparison.verdict.differences],
        "figures": {
            "ranking": figure_json(comparison.ranking().plot()),
            "loss": figure_json(comparison.loss_curves().plot()),
            "rates": figure_json(comparison.learning_rates().plot()),
        },
        "inits": per_init,
        "features": _features(comparison, standings[0].cell),
        "command": command,
        "edges": [comparison.label(s.cell) for s in standings if s.lr_on_edge],
        "fastest": min(s.seconds_per_step for s in standings),
    }


def _init_figures(comparison: Comparison, init: str) -> dict[str, Any]:
    of_init = [cell for cell in comparison.design.cells if cell.init == init]
    shown = next((cell for cell in of_init if cell.optimizer == comparison.baseline), of_init[0])
    return {
        "name": init,
        "optimizer": shown.optimizer,
        "diagnoses": comparison.diagnoses(init),
        "norms": figure_json(comparison.gradient_norms(init).plot()),
        "layers": figure_json(comparison.layer_gradients(shown).plot()),
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
    against = (
        "the choice"
        if cell == verdict.choice
        else "beaten"
        if cell in verdict.beaten
        else "the same"
        if cell in verdict.same
        else "undecided"
    )
    index = list(comparison.design.cells).index(cell)
    return {"name": comparison.label(cell), "color": color(index), "standing": standing, "against_best": against}


def _pair(comparison: Comparison, pair: Difference[Cell]) -> dict[str, Any]:
    a, b = comparison.label(pair.a), comparison.label(pair.b)
    if pair.seedless:
        says = "undecided, neither depends on the seed"
    elif pair.better is None:
        says = "undecided"
    else:
        says = f"{a} beats {b}" if pair.better == pair.a else f"{b} beats {a}"
    return {"a": a, "b": b, "pair": pair, "says": says}
