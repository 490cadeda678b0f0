"""The page of a comparison: one file that needs nothing else."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from steepest._figure import color
from steepest.compare import ALPHA, Comparison, Pair, Standing, write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["write_report"]


def write_report(comparison: Comparison, path: Path, command: str = "") -> Path:
    """Write the page of a comparison; return its path.

    Raises:
        OutputError: If the file cannot be written.
    """
    environment = Environment(loader=PackageLoader("steepest.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, digits=_digits, steps=_steps, size=_size, duration=_duration)
    page = environment.get_template("report.html.jinja").render(**_content(comparison, command))
    write_text(path, page)
    return path


def _content(comparison: Comparison, command: str) -> dict[str, Any]:
    from plotly.offline import get_plotlyjs

    standings = comparison.table()
    cells = list(comparison.plan.cells)
    inits = list(dict.fromkeys(cell.init for cell in cells))
    per_init = [_init_figures(comparison, init) for init in inits]
    return {
        "css": Markup(_resource("report.css")),
        "js": Markup(_resource("report.js")),
        "plotly": Markup(get_plotlyjs()),
        "comparison": comparison,
        "verdict": comparison.verdict,
        "alpha": ALPHA,
        "standings": [_row(comparison, s, standings) for s in standings],
        "series": [{"name": comparison.label(cell), "color": color(i)} for i, cell in enumerate(cells)],
        "pairs": [_pair(comparison, pair) for pair in comparison.verdict.pairs],
        "figures": {
            "ranking": _json(comparison.ranking().plot()),
            "loss": _json(comparison.loss_curves().plot()),
            "rates": _json(comparison.learning_rates().plot()),
        },
        "inits": per_init,
        "command": command,
        "edges": [comparison.label(s.cell) for s in standings if s.lr_on_edge],
        "fastest": min(s.seconds_per_step for s in standings),
    }


def _init_figures(comparison: Comparison, init: str) -> dict[str, Any]:
    of_init = [cell for cell in comparison.plan.cells if cell.init == init]
    shown = next((cell for cell in of_init if cell.optimizer == comparison.baseline), of_init[0])
    return {
        "name": init,
        "optimizer": shown.optimizer,
        "diagnoses": comparison.diagnoses(init),
        "norms": _json(comparison.gradient_norms(init).plot()),
        "layers": _json(comparison.layer_gradients(shown).plot()),
    }


def _row(comparison: Comparison, standing: Standing, standings: list[Standing]) -> dict[str, Any]:
    best = standings[0].cell
    pair = next(
        (p for p in comparison.verdict.pairs if p.measure == "loss" and {p.a, p.b} == {best, standing.cell}),
        None,
    )
    index = list(comparison.plan.cells).index(standing.cell)
    against = "" if pair is None else "undecided" if pair.better is None else "beaten"
    return {
        "name": comparison.label(standing.cell),
        "color": color(index),
        "standing": standing,
        "against_best": against,
    }


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    a, b = comparison.label(pair.a), comparison.label(pair.b)
    if pair.better is None:
        more = f", about {pair.more_seeds} more seeds would settle it" if pair.more_seeds else ""
        says = f"undecided{more}"
    else:
        verb = "beats" if pair.measure == "loss" else "is sooner than"
        says = f"{a} {verb} {b}" if pair.better == pair.a else f"{b} {verb} {a}"
    return {"a": a, "b": b, "pair": pair, "says": says}


def _json(drawing: go.Figure) -> Markup:
    """Return a figure as JSON that can stand inside a script element."""
    return Markup(str(drawing.to_json()).replace("</", "<\\/"))


def _resource(name: str) -> str:
    return files("steepest.report").joinpath(name).read_text(encoding="utf-8")


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return "" if math.isnan(value) else f"{value:.3g}"


def _digits(value: float) -> str:
    """Three significant digits, also where the last are zeros, so that a column can be read down."""
    return _number(value) if not math.isfinite(value) else f"{value:#.3g}".rstrip(".")


def _steps(value: float) -> str:
    return "missed" if math.isinf(value) else f"{value:.0f}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
