"""The parts that all pages share: styles, figures as JSON, numbers as text."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from steepest._figure import COLORS, DARK_COLORS
from steepest._files import write_text
from steepest.compare._result.next_step import rounded_up
from steepest.report._page.packed import packed

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["figure_json", "write_page"]


def write_page(path: Path, template: str, content: dict[str, Any]) -> Path:
    """Render a template with the shared style and scripts, and write it; return the path.

    Raises:
        OutputError: If the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=PackageLoader("steepest.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, digits=_digits, steps=_steps, size=_size)
    environment.filters.update(duration=_duration, themed=_themed, signed=_signed, bound=rounded_up)
    environment.tests.update(finite=_is_finite)
    page = environment.get_template(template).render(
        **content,
        plotly=packed(get_plotlyjs()),
        palette=list(zip(COLORS, DARK_COLORS, strict=True)),
        resource=_resource,
    )
    write_text(path, page)
    return path


def figure_json(drawing: go.Figure) -> Markup:
    """Return a figure for the macro `figure`."""
    return packed(str(drawing.to_json()))


def _resource(name: str) -> Markup:
    return Markup(files("steepest.report").joinpath(name).read_text(encoding="utf-8"))


def _themed(colour: str) -> str:
    """Return a colour of the light palette as the page's variable, which is another one where the page is dark."""
    return f"var(--series-{COLORS.index(colour)})" if colour in COLORS else colour


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return "" if math.isnan(value) else f"{value:.3g}"


def _digits(value: float) -> str:
    """Return three significant digits, trailing zeros included, so that a column lines up."""
    return _number(value) if not math.isfinite(value) else f"{value:#.3g}".rstrip(".")


def _is_finite(value: float) -> bool:
    return math.isfinite(value)


def _signed(value: float) -> str:
    """Return three significant digits with a sign, of which the minus is as wide as the plus."""
    text = _number(value)
    return f"+{text}" if value > 0 else text.replace("-", "\N{MINUS SIGN}")


def _steps(value: float) -> str:
    return "missed" if math.isinf(value) else f"{value:.0f}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
