"""Displays of gradient norms and activations over training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest._check import at_least, instance
from steepest._figure import color, dash, figure, heatmap, line, log_axis
from steepest._series import Array, numbers, series
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["ActivationDisplay", "GradientNormDisplay", "LayerGradientDisplay"]


@dataclass(frozen=True)
class GradientNormDisplay:
    """The mean gradient norm over the parameters, against the step, one curve per run.

    Attributes:
        steps: The recorded steps of each curve, by the curve's name.
        norms: The mean gradient norms at these steps.
        palette: The index of each curve in the palette, >= 0, so that it has the same colour in other figures; by
            default in the order of the curves.
    """

    steps: Mapping[str, Sequence[int]]
    norms: Mapping[str, Sequence[float]]
    palette: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        lengths = series("steps", self.steps, None, whole=True)
        if lengths != series("norms", self.norms, None):
            remedy = "Pass the same names, with one norm for each step."
            raise InvalidArgument("steps and norms must have the same names and lengths", got=lengths, remedy=remedy)
        if self.palette is not None:
            places = instance("palette", self.palette, Mapping, "a mapping of names to indices")
            for name in self.norms:
                at_least(f"palette[{name!r}]", places.get(name), 0, remedy="Pass an index for every curve.")

    def plot(self) -> go.Figure:
        """Draw the curves on a logarithmic scale, without zeros, which it cannot show."""
        drawing = figure("step", "mean gradient norm")
        drawing.update_yaxes(log_axis(norm for norms in self.norms.values() for norm in norms))
        palette = self.palette or {name: i for i, name in enumerate(self.norms)}
        for name, norms in self.norms.items():
            i = palette[name]
            line(
                drawing,
                list(self.steps[name]),
                [norm if norm > 0 else None for norm in norms],
                name,
                {"color": color(i), "dash": dash(i)},
                f"{name}, step %{{x}}: %{{y:.3g}}",
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
        series("norms", self.norms, *numbers("steps", self.steps, None, whole=True))

    def plot(self) -> go.Figure:
        """Draw parameters (first on top) by steps, the colour logarithmic; zero or no gradient is blank."""
        return _by_step(self.steps, self.norms, _logarithms, "log10 of the norm")


@dataclass(frozen=True)
class ActivationDisplay:
    """The share of idle activations of every layer, against the step, as a heat map.

    Attributes:
        steps: The recorded steps.
        idle: By layer, in the order of the forward pass: the share of units that were 0 for every example, or of
            entries at the ends of a bounded activation, whichever is larger, at these steps.
    """

    steps: Sequence[int]
    idle: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        series("idle", self.idle, *numbers("steps", self.steps, None, whole=True))

    def plot(self) -> go.Figure:
        """Draw layers (first on top) by steps, the colour from 0 to 1; records without the layer are blank."""
        return _by_step(self.steps, self.idle, lambda shares: shares, "share idle", zmin=0, zmax=1)


def _by_step(
    steps: Sequence[int],
    rows: Mapping[str, Sequence[float]],
    colored: Callable[[Array], Array],
    title: str,
    **options: Any,
) -> go.Figure:
    """Return the heat map of a number by row and step, coloured by a function of it."""
    values = np.array(list(rows.values()), dtype=float).reshape(len(rows), len(steps))
    drawing = figure("step", "", height=max(260, 60 + 18 * len(rows)))
    told = "%{y}, step %{x}: %{customdata:.3g}"
    heatmap(drawing, steps, list(rows), colored(values), values, title, told, **options)
    return drawing


def _logarithms(values: Array) -> Array:
    return np.log10(np.where((values > 0) & np.isfinite(values), values, np.nan))
