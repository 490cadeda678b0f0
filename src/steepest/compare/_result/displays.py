"""Displays of a comparison's numbers; curves.py has those of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steepest._check import boolean, in_range, instance
from steepest._figure import GREY, color, dash, figure, line, log_axis, points, translucent
from steepest._series import named, numbers
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["DifferencesDisplay", "LearningRateDisplay", "RankingDisplay"]


@dataclass(frozen=True, kw_only=True)
class DifferencesDisplay:
    """Differences of several alternatives from one of them, with their simultaneous intervals.

    Attributes:
        names: The alternatives, in the order of the other displays, which fixes their colours.
        choice: The alternative that the others are compared with.
        differences: By name, the difference of the mean from the choice's.
        lows: By name, the lower ends of the intervals; infinite where nothing is known.
        highs: By name, the upper ends.
        margin: The difference that does not matter, drawn as a band; 0 for none.
        title: What differs.
        higher_is_better: Whether larger values are better.
    """

    names: Sequence[str]
    choice: str
    differences: Mapping[str, float]
    lows: Mapping[str, float]
    highs: Mapping[str, float]
    margin: float = 0.0
    title: str = "final validation loss"
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        for name in instance("names", self.names, (list, tuple), "a list of names"):
            instance("names", name, str, "a list of names")
        instance("choice", self.choice, str, "a name")
        instance("title", self.title, str, "a string")
        boolean("higher_is_better", self.higher_is_better)
        in_range("margin", self.margin, "[0, inf)")
        for field in ("differences", "lows", "highs"):
            for name, value in named(field, getattr(self, field), self.differences).items():
                if name not in self.names:
                    raise InvalidArgument(f"{field} must be of the names", got=name, remedy="See names.")
                in_range(field, value, "[-inf, inf]")

    def plot(self) -> go.Figure:
        """Draw a point and a bar for each, the best on top; those whose interval is infinite are left out."""
        shown = [n for n in self.differences if math.isfinite(self.lows[n]) and math.isfinite(self.highs[n])]
        order = sorted(shown, key=lambda n: self.differences[n], reverse=self.higher_is_better)
        side = "\N{LEFTWARDS ARROW} worse" if self.higher_is_better else "worse \N{RIGHTWARDS ARROW}"
        drawing = figure(side, "", height=110 + 34 * len(order))
        if self.margin:
            drawing.add_vrect(x0=-self.margin, x1=self.margin, line_width=0, fillcolor=translucent(GREY, 0.18))
        drawing.add_vline(x=0, line={"color": GREY, "width": 1.5})
        for name in order:
            i, low, high, middle = self.names.index(name), self.lows[name], self.highs[name], self.differences[name]
            points(
                drawing,
                [middle],
                [name],
                name,
                {"color": color(i), "size": 11},
                f"{name}, {self.title}: %{{x:.3g}} ({low:.3g} to {high:.3g})",
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - middle],
                    "arrayminus": [middle - low],
                    "color": color(i),
                    "thickness": 2,
                    "width": 6,
                },
            )
        drawing.update_yaxes(type="category", categoryorder="array", categoryarray=order[::-1])
        return drawing


@dataclass(frozen=True)
class LearningRateDisplay:
    """The mean of the tuning runs against the learning rate, the chosen rate marked.

    Attributes:
        rates: By series, the rates tried, ascending.
        losses: The means at these rates, of the loss or what else is ranked by; infinite where a run diverged.
        chosen: The chosen rate of each series.
        title: What is ranked by.
        higher_is_better: Whether larger values are better.
    """

    rates: Mapping[str, Sequence[float]]
    losses: Mapping[str, Sequence[float]]
    chosen: Mapping[str, float]
    title: str = "validation loss"
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        rates_of = named("rates", self.rates)
        losses, chosen = named("losses", self.losses, rates_of), named("chosen", self.chosen, rates_of)
        for name, rates in rates_of.items():
            numbers("losses", losses[name], *numbers("rates", rates, None))
            in_range("chosen", chosen[name], "(0, inf)")
        instance("title", self.title, str, "a string")
        boolean("higher_is_better", self.higher_is_better)

    def plot(self) -> go.Figure:
        """Draw both axes logarithmic, or the vertical one linear where larger or negative values may be good.

        A rate at which a run diverged is a cross along the edge of the worst values.
        """
        finite = [v for losses in self.losses.values() for v in losses if math.isfinite(v)]
        low, high = min(finite, default=1.0), max(finite, default=1.0)
        is_log = not self.higher_is_better and low > 0
        margin = 0.06 * (high - low or 1.0)
        worst = low - margin if self.higher_is_better else high * 1.3 if is_log else high + margin
        drawing = figure("learning rate", f"{self.title} in tuning")
        drawing.update_xaxes(log_axis(rate for rates in self.rates.values() for rate in rates))
        if is_log:
            drawing.update_yaxes(log_axis(finite))
        for i, (name, rates) in enumerate(self.rates.items()):
            losses = self.losses[name]
            line(
                drawing,
                list(rates),
                [v if math.isfinite(v) else None for v in losses],
                name,
                {"color": color(i), "dash": dash(i)},
                f"{name}, %{{x:.3g}}: %{{y:.4g}}",
                mode="lines+markers",
                marker={
                    "size": [15 if rate == self.chosen[name] else 6 for rate in rates],
                    "symbol": ["star" if rate == self.chosen[name] else "circle" for rate in rates],
                },
            )
            diverged = [rate for rate, v in zip(rates, losses, strict=True) if not math.isfinite(v)]
            points(
                drawing,
                diverged,
                [worst] * len(diverged),
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
