"""The parts that all pages share: styles, figures as JSON, numbers as text."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from steepest._files import write_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["figure_json", "in_script", "write_page"]


def write_page(path: Path, template: str, content: dict[str, Any]) -> Path:
    """Render a template with the shared style and scripts, and write it; return the path.

    Raises:
        OutputError: If the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=PackageLoader("steepest.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, digits=_digits, steps=_steps, size=_size, duration=_duration)
    page = environment.get_template(template).render(**content, plotly=Markup(get_plotlyjs()), resource=_resource)
    write_text(path, page)
    return path


def figure_json(drawing: go.Figure) -> Markup:
    """Return a figure as JSON that is safe inside a script element."""
    return in_script(str(drawing.to_json()))


def in_script(text: str) -> Markup:
    """Return JSON that is safe inside a script element."""
    return Markup(text.replace("</", "<\\/"))


def _resource(name: str) -> Markup:
    return Markup(files("steepest.report").joinpath(name).read_text(encoding="utf-8"))


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return "" if math.isnan(value) else f"{value:.3g}"


def _digits(value: float) -> str:
    """Return three significant digits, trailing zeros included, so that a column lines up."""
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
