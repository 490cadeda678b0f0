"""The look that all displays share; plotly is imported when something is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from steepest._importing import require

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["COLORS", "DASHES", "band", "color", "dash", "figure", "log_axis", "translucent"]

# Okabe and Ito's palette for all kinds of colour vision, without its yellow (too pale on white) and with
# the black as a mid grey that both a light and a dark page carry.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def color(index: int) -> str:
    """Return the colour of the index-th series; past the palette's end it repeats (see `dash`)."""
    return COLORS[index % len(COLORS)]


def dash(index: int) -> str:
    """Return the line style of the index-th series, a new one each time the colours start again."""
    return DASHES[index // len(COLORS) % len(DASHES)]


def translucent(hex_color: str, opacity: float) -> str:
    """Return a colour "#rrggbb" as "rgba(r, g, b, opacity)"."""
    red, green, blue = (int(hex_color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def figure(x: str, y: str, **layout: Any) -> go.Figure:
    """Return an empty figure with titled axes, on a transparent ground, in no particular theme."""
    require("A figure", "plotly", extra="plot")
    import plotly.graph_objects as go

    axis = {
        "gridcolor": "rgba(128, 128, 128, 0.25)",
        "zeroline": False,
        "linecolor": "rgba(128, 128, 128, 0.6)",
    }
    options: dict[str, Any] = {
        "xaxis": {"title": {"text": x}, "automargin": True, **axis},
        "yaxis": {"title": {"text": y}, "automargin": True, **axis},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#808080"},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "hovermode": "closest",
        "colorway": list(COLORS),
    }
    return go.Figure(layout=go.Layout(template="none", **options)).update_layout(**layout)


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Return the options of a logarithmic axis with at least three ticks; a linear one over too short a range.

    Args:
        values: What is drawn along the axis; only finite positive numbers count.
    """
    shown = [value for value in values if 0 < value < math.inf]
    if not shown:
        return {"type": "log"}
    low, high = min(shown), max(shown)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        ticks = [digit * 10.0**k for k in decades for digit in digits]
        shown = sum(low <= tick <= high for tick in ticks)
        if shown >= 3:
            ticks = ticks[:: math.ceil(shown / 12)] if len(digits) == 1 else ticks
            return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return {"type": "linear"}


def band(
    drawing: go.Figure,
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    hex_color: str,
    name: str,
) -> None:
    """Fill the area between two curves, as part of the series `name`."""
    drawing.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=translucent(hex_color, 0.18),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
    )
