"""The style that all displays share; plotly is imported when a figure is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest._importing import require

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    Values = Sequence[float | str | None] | NDArray[Any]
    Numbers = Sequence[float] | NDArray[Any]
    Style = Mapping[str, Any]

__all__ = [
    "COLORS",
    "DARK_COLORS",
    "DASHES",
    "GREY",
    "band",
    "color",
    "dash",
    "figure",
    "heatmap",
    "line",
    "log_axis",
    "points",
    "subplots",
    "template",
    "translucent",
]

# After Okabe and Ito's palette for all kinds of colour vision. Its yellow, orange, sky blue and purple are darkened or
# left out, so that every colour has a contrast of at least 3 with white and with a dark page.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#C4699B", "#946200", "#3592D4", "#7F7F7F")
DARK_COLORS = ("#4C9BE8", "#FF8A3D", "#2BC79A", "#E79BC9", "#F0C04A", "#8FD3FF", "#A9B1BA")
"""The same series on a page that is known to be dark."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
GREY = "#808080"
"""The colour of all that belongs to no series, on light and dark pages."""


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


def template() -> go.layout.Template:
    """Return the style: a transparent background and grey text, for any theme. Nothing is registered in plotly."""
    require("A figure", "plotly", extra="plot")
    import plotly.graph_objects as go

    axis = {
        "title": {"text": ""},
        "automargin": True,
        "showgrid": True,
        "gridcolor": "rgba(128, 128, 128, 0.25)",
        "zeroline": False,
        "showline": True,
        "linecolor": "rgba(128, 128, 128, 0.6)",
    }
    look = {
        "xaxis": axis,
        "yaxis": axis,
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": GREY},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "hovermode": "closest",
        "colorway": list(COLORS),
    }
    return go.layout.Template(layout=look)


def figure(x: str, y: str, **layout: Any) -> go.Figure:
    """Return an empty figure with titled axes."""
    require("A figure", "plotly", extra="plot")
    import plotly.graph_objects as go

    titles = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return go.Figure(layout=go.Layout(template=template(), **titles)).update_layout(**layout)


def subplots(rows: int, columns: int, **options: Any) -> go.Figure:
    """Return an empty figure with a grid of panels; the options are those of plotly's make_subplots."""
    require("A figure", "plotly", extra="plot")
    from plotly.subplots import make_subplots

    return make_subplots(rows, columns, **options).update_layout(template=template())


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Return the options of a logarithmic axis with at least three ticks; a linear one over too short a range.

    Args:
        values: The values drawn along the axis; only finite positive numbers count.
    """
    shown = [value for value in values if 0 < value < math.inf]
    if not shown:
        return {"type": "log"}
    low, high = min(shown), max(shown)
    decades = range(math.floor(math.log10(low)) - 1, min(math.ceil(math.log10(high)) + 2, 308))  # 9e307 is a float
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        ticks = [digit * 10.0**k for k in decades for digit in digits]
        shown = sum(low <= tick <= high for tick in ticks)
        if shown >= 3:
            ticks = ticks[:: math.ceil(shown / 12)] if len(digits) == 1 else ticks
            return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return {"type": "linear"}


def line(drawing: go.Figure, x: Values, y: Values, name: str, style: Style, hover: str, **options: Any) -> None:
    """Draw a curve of the series `name`.

    Args:
        drawing: The figure.
        x: The horizontal coordinates.
        y: The vertical coordinates; None and nan leave a gap.
        name: The name of the series, whose curves, points and bands are shown or hidden together.
        style: The colour, dash and width of the line.
        hover: The text at a point, with %{x} and %{y} for its numbers; empty for none.
        options: Further options of plotly's scatter; row and col choose a panel.
    """
    _scatter(drawing, x, y, name, hover, {"mode": "lines", "line": style, **options})


def points(drawing: go.Figure, x: Values, y: Values, name: str, style: Style, hover: str, **options: Any) -> None:
    """Draw points of the series `name`; `style` is that of the markers, the other arguments are as in `line`."""
    _scatter(drawing, x, y, name, hover, {"mode": "markers", "marker": style, **options})


def _scatter(drawing: go.Figure, x: Values, y: Values, name: str, hover: str, options: dict[str, Any]) -> None:
    told = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    drawing.add_scatter(x=x, y=y, name=name, **{"legendgroup": name, **told, **options})


def band(drawing: go.Figure, x: Numbers, low: Numbers, high: Numbers, name: str, fill: str, **options: Any) -> None:
    """Fill the area between two curves, as part of the series `name`, in a colour that is translucent."""
    drawing.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=fill,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
        **options,
    )


def heatmap(
    drawing: go.Figure,
    x: Values,
    rows: Sequence[str],
    shown: NDArray[np.float64],
    told: NDArray[np.float64],
    title: str,
    hover: str,
    **options: Any,
) -> None:
    """Draw a row of colours for each name, the first on top.

    Args:
        drawing: The figure.
        x: The values of the columns.
        rows: The names of the rows.
        shown: The numbers that the colours show, [rows, columns]; nan is blank.
        told: The numbers for the text, %{customdata} in `hover`, [rows, columns].
        title: The title of the colour bar.
        hover: The text at an entry, with %{x} and %{y} for its column and row.
        options: Further options of plotly's heat map.
    """
    drawing.add_heatmap(
        x=list(x),
        y=list(rows),
        z=[[None if np.isnan(value) else float(value) for value in row] for row in shown],
        customdata=told.tolist(),
        colorscale="Viridis",
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
        hovertemplate=f"{hover}<extra></extra>",
        **options,
    )
    drawing.update_yaxes(autorange="reversed", showgrid=False, type="category")
