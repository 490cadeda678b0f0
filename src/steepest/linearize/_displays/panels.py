"""Panels side by side, and places marked along their bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steepest._figure import figure, subplots
from steepest._series import Array

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["panels", "ticks"]


def panels(titles: Sequence[str], x: str, y: str) -> tuple[go.Figure, list[tuple[dict[str, int], tuple[str, str]]]]:
    """Return a figure with a panel for each title; of each its place for traces, and its axes for shapes.

    A single panel has no title, as its caller chose it.
    """
    if len(titles) == 1:
        return figure(x, y), [({}, ("x", "y"))]
    rows = math.ceil(len(titles) / 2)
    drawing = subplots(rows, 2, subplot_titles=titles, vertical_spacing=0.3 / rows, horizontal_spacing=0.09)
    drawing.update_annotations(font={"size": 13}).update_layout(height=80 + 190 * rows, margin={"t": 28})
    numbers = ["", *map(str, range(2, 2 * rows + 1))]
    places = [({"row": i // 2 + 1, "col": i % 2 + 1}, (f"x{numbers[i]}", f"y{numbers[i]}")) for i in range(len(titles))]
    return drawing, places


def ticks(drawing: go.Figure, at: Sequence[float], x: Array, hex_color: str, axes: tuple[str, str]) -> None:
    """Mark places along the bottom of a panel."""
    path = " ".join(f"M {v:.6g},0 V 0.05" for v in at if x[0] <= v <= x[-1])
    if path:
        drawing.add_shape(
            type="path",
            path=path,
            xref=axes[0],
            yref=f"{axes[1]} domain",
            line={"color": hex_color, "width": 1},
            opacity=0.8,
        )
