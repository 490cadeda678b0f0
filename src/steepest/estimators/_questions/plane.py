"""Heights of an objective of two coordinates, as contours under paths and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from steepest._figure import GREY
from steepest._series import Array
from steepest.estimators._questions.many import values_at

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Plane"]

_SIDE, _COARSE = 81, 31


@dataclass(frozen=True)
class Plane:
    """The heights [rows, columns] of a function on a grid of two coordinates."""

    x: Array
    y: Array
    heights: Array

    @classmethod
    def around(cls, objective: Any, points: Array, like: Tensor, *, coarse: bool = False) -> Plane | None:
        """Return the heights around points [..., 2]; None for another number of coordinates.

        Args:
            objective: f.
            points: What is to be in the plane.
            like: A tensor with the data type and the device that f takes.
            coarse: Whether a grid of fewer points will do.
        """
        flat = points.reshape(-1, points.shape[-1])
        flat = flat[np.isfinite(flat).all(1)]
        if flat.shape[-1] != 2 or not len(flat):
            return None
        low, high = np.quantile(flat, 0.002, axis=0), np.quantile(flat, 0.998, axis=0)
        margin = 0.08 * (high - low) + 0.05 * max(float((high - low).max()), 1e-3)
        side = _COARSE if coarse else _SIDE
        x, y = (np.linspace(a, b, side) for a, b in zip(low - margin, high + margin, strict=True))
        rows = torch.as_tensor(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(like)
        return cls(x, y, values_at(objective, rows).cpu().double().numpy().reshape(side, side))

    def draw(self, drawing: go.Figure, row: int, col: int) -> None:
        """Draw contours into a panel."""
        levels = np.unique(self.heights)
        if 1 < len(levels) <= 14:  # one line at each jump
            size = float(np.diff(levels).min())
            levels = levels[:-1] + size / 2
        else:
            size = max(float(levels[-1] - levels[0]) / 14, 1e-9)
        steps = {"start": float(levels[0]), "end": float(levels[-1])}
        drawing.add_contour(
            x=self.x,
            y=self.y,
            z=self.heights,
            showscale=False,
            colorscale=[[0, GREY], [1, GREY]],
            contours={**steps, "size": size, "coloring": "lines"},
            line={"width": 1},
            opacity=0.45,
            hoverinfo="skip",
            row=row,
            col=col,
        )
        drawing.update_xaxes(range=[self.x[0], self.x[-1]], showgrid=False, row=row, col=col)
        drawing.update_yaxes(range=[self.y[0], self.y[-1]], showgrid=False, row=row, col=col)
