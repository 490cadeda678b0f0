"""Displays of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from steepest._check import in_range, instance
from steepest._figure import GREY, band, color, dash, figure, line, log_axis, points, translucent
from steepest._series import named, numbers, series

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["LearningRateDisplay", "LossCurvesDisplay", "RankingDisplay"]


@dataclass(frozen=True)
class LossCurvesDisplay:
    """Validation loss against the step: the median over the seeds, and the middle half of them as a band.

    Attributes:
        steps: The validated steps, the same for all.
        losses: By series: one row per seed, infinite after a run diverged.
        target: The loss at which the target line is drawn; None for no line.
    """

    steps: Sequence[int]
    losses: Mapping[str, Sequence[Sequence[float]]]
    target: float | None = None

    def __post_init__(self) -> None:
        (count,) = numbers("steps", self.steps, None)
        series("losses", self.losses, None, count)
        if self.target is not None:
            in_range("target", self.target, "[-inf, inf]")

    def plot(self) -> go.Figure:
        """Draw the curves on a logarithmic scale."""
        drawing = figure("step", "validation loss")
        drawing.update_yaxes(log_axis(v for losses in self.losses.values() for row in losses for v in row))
        for i, (name, losses) in enumerate(self.losses.items()):
            rows: NDArray[np.float64] = np.asarray(losses, dtype=float)
            low, middle, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
            shown = np.isfinite(high) & (low > 0)
            x = [step for step, finite in zip(self.steps, shown, strict=True) if finite]
            band(drawing, x, low[shown], high[shown], name, translucent(color(i), 0.18))
            line(
                drawing,
                list(self.steps),
                [float(v) if 0 < v < math.inf else None for v in middle],
                name,
                {"color": color(i), "dash": dash(i), "width": 2},
                f"{name}, step %{{x}}: %{{y:.4g}}",
            )
        if self.target is not None:
            drawing.add_hline(y=self.target, line={"color": GREY, "width": 1, "dash": "dot"})
        return drawing


@dataclass(frozen=True)
class LearningRateDisplay:
    """Mean final validation loss of the tuning runs against the learning rate, the chosen rate marked.

    Attributes:
        rates: By series, the rates tried, ascending.
        losses: The mean losses at these rates, infinite where a run diverged.
        chosen: The chosen rate of each series.
    """

    rates: Mapping[str, Sequence[float]]
    losses: Mapping[str, Sequence[float]]
    chosen: Mapping[str, float]

    def __post_init__(self) -> None:
        rates_of = named("rates", self.rates)
        losses, chosen = named("losses", self.losses, rates_of), named("chosen", self.chosen, rates_of)
        for name, rates in rates_of.items():
            numbers("losses", losses[name], *numbers("rates", rates, None))
            in_range("chosen", chosen[name], "(0, inf)")

    def plot(self) -> go.Figure:
        """Draw both axes logarithmic; a rate at which a run diverged is a cross along the top."""
        finite = [v for losses in self.losses.values() for v in losses if 0 < v < math.inf]
        top = max(finite, default=1.0) * 1.3
        drawing = figure("learning rate", "validation loss in tuning")
        drawing.update_xaxes(log_axis(rate for rates in self.rates.values() for rate in rates))
        drawing.update_yaxes(log_axis(finite))
        for i, (name, rates) in enumerate(self.rates.items()):
            losses = self.losses[name]
            line(
                drawing,
                list(rates),
                [v if v < math.inf else None for v in losses],
                name,
                {"color": color(i), "dash": dash(i)},
                f"{name}, %{{x:.3g}}: %{{y:.4g}}",
                mode="lines+markers",
                marker={
                    "size": [15 if rate == self.chosen[name] else 6 for rate in rates],
                    "symbol": ["star" if rate == self.chosen[name] else "circle" for rate in rates],
                },
            )
            diverged = [rate for rate, v in zip(rates, losses, strict=True) if v == math.inf]
            points(
                drawing,
                diverged,
                [top] * len(diverged),
                name,
                {"symbol": "x", "size": 8, "color": color(i)},
                f"{name}, %{{x:.3g}}: diverged",
                showlegend=False,
            )
        return drawing


@dataclass(frozen=True)
class RankingDisplay:
    """Mean final validation loss with its 95% interval, best on top.

    Attributes:
        names: The series, in the order of the other displays (which fixes their colours).
        means: The means.
        lows: Lower ends of the intervals.
        highs: Upper ends of the intervals.
    """

    names: Sequence[str]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]

    def __post_init__(self) -> None:
        for name in instance("names", self.names, (list, tuple), "a list of names"):
            instance("names", name, str, "a list of names")
        for field in ("means", "lows", "highs"):
            numbers(field, getattr(self, field), len(self.names))

    def plot(self) -> go.Figure:
        """Draw a point and a bar for each series."""
        drawing = figure("final validation loss", "", height=90 + 34 * len(self.names))
        order = sorted(range(len(self.names)), key=lambda i: self.means[i])
        for i in order:
            points(
                drawing,
                [self.means[i]],
                [self.names[i]],
                self.names[i],
                {"color": color(i), "size": 11},
                f"{self.names[i]}: %{{x:.4g}} ({self.lows[i]:.4g} to {self.highs[i]:.4g})",
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [self.highs[i] - self.means[i]],
                    "arrayminus": [self.means[i] - self.lows[i]],
                    "color": color(i),
                    "thickness": 2,
                    "width": 6,
                },
            )
        drawing.update_yaxes(
            type="category", categoryorder="array", categoryarray=[self.names[i] for i in reversed(order)]
        )
        return drawing
