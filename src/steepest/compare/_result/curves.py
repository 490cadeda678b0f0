"""The curves of a comparison's final runs, over steps, evaluations of the loss or seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from steepest._check import boolean, in_range, instance
from steepest._figure import GREY, band, color, dash, figure, line, log_axis, points, translucent
from steepest._series import named, numbers
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from steepest.train import History

__all__ = ["X_TITLES", "CurvesDisplay", "Over", "curve_of", "series_of"]

Over = Literal["steps", "evaluations", "seconds"]

X_TITLES: dict[Over, str] = {
    "steps": "step",
    "evaluations": "evaluations of the loss",
    "seconds": "seconds of training",
}
"""By what a curve is over, the title of its axis."""

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class CurvesDisplay:
    """Curves of several runs per series: the median over them, the middle half as a band, and each run's end as a dot.

    Attributes:
        x: By series, one row per run: steps, evaluations or seconds, ascending.
        y: By series, the values there; a run that diverged ends with an infinite value or nan.
        x_title: What x is.
        y_title: What y is.
        target: The value at which a line is drawn; None for no line.
        higher_is_better: Whether larger values are better; a run that diverged counts as worse than all others.
    """

    x: Mapping[str, Rows]
    y: Mapping[str, Rows]
    x_title: str = "step"
    y_title: str = "validation loss"
    target: float | None = None
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        for name, rows in named("y", self.y, named("x", self.x)).items():
            of_x = instance("x", self.x[name], (list, tuple), "lists of rows")
            if not rows or len(of_x) != len(instance("y", rows, (list, tuple), "lists of rows")):
                raise InvalidArgument("x and y must have one row per run", got=name, remedy="Pass one or more.")
            for x, y in zip(of_x, rows, strict=True):
                numbers("y", y, *numbers("x", x, None))
        for field in ("x_title", "y_title"):
            instance(field, getattr(self, field), str, "a string")
        boolean("higher_is_better", self.higher_is_better)
        if self.target is not None:
            in_range("target", self.target, "[-inf, inf]")

    def plot(self) -> go.Figure:
        """Draw the curves; the vertical axis is logarithmic if smaller values are better and none is negative."""
        drawing = figure(self.x_title, self.y_title)
        values = [v for rows in self.y.values() for row in rows for v in row if math.isfinite(v)]
        is_log = not self.higher_is_better and min(values, default=1.0) >= 0
        if is_log:
            drawing.update_yaxes(log_axis(values))
        ends = {name: self._ends(name) for name in self.y}
        last = {x for of_series in ends.values() for x, _ in of_series}
        # Where all runs end at one step, the dots of a series stand beside those of another.
        width = 0.012 * max(last) if len(last) == 1 and len(self.y) > 1 else 0.0
        for i, name in enumerate(self.y):
            x, y = self._rows(name)
            low, middle, high = np.quantile(y, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
            at = np.nanmedian(x, axis=0)
            shown = np.isfinite(low) & np.isfinite(high) & ((low > 0) | (not is_log))
            if len(y) > 1:
                band(drawing, at[shown], low[shown], high[shown], name, translucent(color(i), 0.16))
            line(
                drawing,
                at,
                [float(v) if math.isfinite(v) and (v > 0 or not is_log) else None for v in middle],
                name,
                {"color": color(i), "dash": dash(i), "width": 2},
                f"{name}, {self.x_title} %{{x:.4g}}: %{{y:.4g}}",
            )
            points(
                drawing,
                [x + width * (i + 1) for x, _ in ends[name]],
                [y for _, y in ends[name]],
                name,
                {"color": color(i), "size": 5, "opacity": 0.65},
                f"{name}, one run: %{{y:.4g}}",
                showlegend=False,
                cliponaxis=False,
            )
        if self.target is not None and math.isfinite(self.target):
            drawing.add_hline(y=self.target, line={"color": GREY, "width": 1, "dash": "dot"})
        return drawing

    def _ends(self, name: str) -> list[tuple[float, float]]:
        """Return where the runs of a series end, those that diverged left out."""
        ends = [(float(x[-1]), float(y[-1])) for x, y in zip(self.x[name], self.y[name], strict=True) if len(x)]
        return [(x, y) for x, y in ends if math.isfinite(y)]

    def _rows(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y as arrays [runs, points]: shorter runs have diverged, and are the worst from then on."""
        length = max(len(row) for row in self.x[name])
        worst = -math.inf if self.higher_is_better else math.inf
        x, y = np.full((len(self.x[name]), length), np.nan), np.full((len(self.x[name]), length), worst)
        for i, (xs, ys) in enumerate(zip(self.x[name], self.y[name], strict=True)):
            # The last point of a run that diverged is at a step of its own, where the others have none.
            whole = len(xs) if len(xs) == length else max(0, len(xs) - 1)
            x[i, :whole], y[i, : len(ys)] = np.asarray(xs, float)[:whole], ys
        y[np.isnan(y)] = worst
        longest = max(range(len(x)), key=lambda i: len(self.x[name][i]))
        x[:, np.isnan(x).all(axis=0)] = x[longest, np.isnan(x).all(axis=0)]
        return x, y


def series_of(histories: Mapping[str, Sequence[History]], name: str, over: Over) -> dict[str, Any]:
    """Return the curves of runs as arguments of a `CurvesDisplay`.

    Args:
        histories: By series, the histories of its runs.
        name: "loss" (in validation), "training loss", or a metric's name.
        over: What x is.
    """
    found = {label: [curve_of(history, name, over) for history in each] for label, each in histories.items()}
    return {
        "x": {label: [x for x, _ in rows] for label, rows in found.items()},
        "y": {label: [y for _, y in rows] for label, rows in found.items()},
        "x_title": X_TITLES[over],
        "y_title": "validation loss" if name == "loss" else name.replace("_", " "),
    }


def curve_of(history: History, name: str, over: Over) -> tuple[list[float], list[float]]:
    """Return positions and values of a curve of a run."""
    if name == "training loss":
        steps, values = history.gradient_steps, history.train_loss
    else:
        steps, values = history.steps, history.valid_loss if name == "loss" else history.valid_metrics[name]
    if over == "steps":
        return [float(step) for step in steps], values
    of_steps = history.seconds if over == "seconds" else history.evaluations
    return np.interp(steps, history.steps, of_steps).tolist(), values
