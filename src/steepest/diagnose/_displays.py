"""Gradient norms to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steepest._check import at_least, instance
from steepest._figure import color, dash, figure, log_axis
from steepest._importing import require
from steepest.diagnose._arguments import check_curve, check_curves
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["ActivationDisplay", "GradientNormDisplay", "LayerGradientDisplay"]


@dataclass(frozen=True)
class GradientNormDisplay:
    """The mean gradient norm over the parameters, against the step, one curve a run.

    Attributes:
        steps: The recorded steps of each curve, by the curve's name.
        norms: The mean gradient norms at these steps.
        palette: Each curve's place in the palette, so that it has the colour that it has elsewhere; by default its
            own order.
    """

    steps: Mapping[str, Sequence[int]]
    norms: Mapping[str, Sequence[float]]
    palette: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        lengths = check_curves("steps", self.steps, whole=True)
        if lengths != check_curves("norms", self.norms):
            remedy = "Pass the same names, with one norm for each step."
            raise InvalidArgument("steps and norms must have the same names and lengths", got=lengths, remedy=remedy)
        if self.palette is not None:
            places = instance("palette", self.palette, Mapping, "a mapping of names to places")
            for name in self.norms:
                at_least(f"palette[{name!r}]", places.get(name), 0, remedy="Pass a place for every curve.")

    def plot(self) -> go.Figure:
        """Draw the curves on a logarithmic scale; zeros, which it has no place for, are left out."""
        drawing = figure("step", "mean gradient norm")
        drawing.update_yaxes(log_axis(norm for norms in self.norms.values() for norm in norms))
        palette = self.palette or {name: i for i, name in enumerate(self.norms)}
        for name, norms in self.norms.items():
            i = palette[name]
            drawing.add_scatter(
                x=list(self.steps[name]),
                y=[norm if norm > 0 else None for norm in norms],
                name=name,
                legendgroup=name,
                mode="lines",
                line={"color": color(i), "dash": dash(i)},
                hovertemplate=f"{name}, step %{{x}}: %{{y:.3g}}<extra></extra>",
            )
        return drawing


@dataclass(frozen=True)
class LayerGradientDisplay:
    """The gradient norm of every parameter against the step, as a heat map.

    Attributes:
        steps: The recorded steps.
        norms: By parameter name, in the order of the model: the norms at these steps.
    """

    steps: Sequence[int]
    norms: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        check_curves("norms", self.norms, check_curve("steps", self.steps, whole=True))

    def plot(self) -> go.Figure:
        """Draw parameters (first on top) by steps, the colour logarithmic; zero or no gradient is blank."""
        values: NDArray[np.float64] = np.array(list(self.norms.values()), dtype=float).reshape(
            len(self.norms), len(self.steps)
        )
        logs = np.log10(np.where((values > 0) & np.isfinite(values), values, np.nan))
        drawing = figure("step", "", height=max(260, 60 + 18 * len(self.norms)))
        drawing.add_trace(_heat_map(self.steps, list(self.norms), logs, values, "log10 of the norm"))
        return drawing.update_yaxes(autorange="reversed", showgrid=False, type="category")


@dataclass(frozen=True)
class ActivationDisplay:
    """How healthy the activations of every layer are, against the step, as a heat map.

    Attributes:
        steps: The recorded steps.
        idle: By layer, in the order of the forward pass: the share of units that were 0 for every example, or of
            entries at the ends of a bounded activation, whichever is larger, at these steps.
    """

    steps: Sequence[int]
    idle: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        check_curves("idle", self.idle, check_curve("steps", self.steps, whole=True))

    def plot(self) -> go.Figure:
        """Draw layers (first on top) by steps, the colour from 0 to 1; what was not seen is blank."""
        values: NDArray[np.float64] = np.array(list(self.idle.values()), dtype=float).reshape(
            len(self.idle), len(self.steps)
        )
        drawing = figure("step", "", height=max(260, 60 + 18 * len(self.idle)))
        drawing.add_trace(_heat_map(self.steps, list(self.idle), values, values, "share idle", zmin=0, zmax=1))
        return drawing.update_yaxes(autorange="reversed", showgrid=False, type="category")


def _heat_map(
    steps: Sequence[int],
    rows: Sequence[str],
    shown: NDArray[np.float64],
    told: NDArray[np.float64],
    title: str,
    **options: Any,
) -> go.Heatmap:
    require("A figure", "plotly", extra="plot")
    import plotly.graph_objects as go

    return go.Heatmap(
        x=list(steps),
        y=list(rows),
        z=[[None if np.isnan(value) else float(value) for value in row] for row in shown],
        customdata=told.tolist(),
        colorscale="Viridis",
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
        hovertemplate="%{y}, step %{x}: %{customdata:.3g}<extra></extra>",
        **options,
    )
