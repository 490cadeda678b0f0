"""Displays of a linearization's spectrum, learning and change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from steepest._check import at_least, boolean, in_range, instance
from steepest._figure import GREY, color, dash, figure, line, log_axis, points
from steepest._series import Array, as_arrays, named, numbers, series
from steepest.errors import InvalidArgument
from steepest.linearize._change import compare_linearizations
from steepest.linearize._linearization import Linearization
from steepest.linearize._spectrum.svd import SVD
from steepest.linearize._trajectory import Trajectory

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = [
    "ChangeDisplay",
    "LearningDisplay",
    "SpectrumDisplay",
]


@dataclass(frozen=True)
class SpectrumDisplay:
    """Singular values on a logarithmic scale, with the numerical rank.

    Attributes:
        singular_values: By series, descending.
        ranks: By series: the number of singular values above the threshold.
        thresholds: By series: singular values below this are numerical noise.
        complete: By series: whether enough values were found to know the rank; True where it is not given.
    """

    singular_values: Mapping[str, Sequence[float]]
    ranks: Mapping[str, int]
    thresholds: Mapping[str, float]
    complete: Mapping[str, bool] = field(default_factory=dict[str, bool])

    def __post_init__(self) -> None:
        series("singular_values", self.singular_values, None)
        for rank in named("ranks", self.ranks, self.singular_values).values():
            at_least("ranks", rank, 0)
        for threshold in named("thresholds", self.thresholds, self.singular_values).values():
            in_range("thresholds", threshold, "[0, inf)")
        for complete in named("complete", self.complete).values():
            boolean("complete", complete)

    @classmethod
    def of(cls, svds: SVD | Mapping[str, SVD]) -> SpectrumDisplay:
        """Return the display of one decomposition, or of several by name."""
        named = {"singular values": svds} if isinstance(svds, SVD) else svds
        for svd in instance("svds", named, Mapping, "an SVD, or a dict of them").values():
            instance("svds", svd, SVD, "an SVD, or a dict of them")
        return cls(
            {name: svd.singular_values.tolist() for name, svd in named.items()},
            {name: svd.rank for name, svd in named.items()},
            {name: svd.threshold for name, svd in named.items()},
            {name: svd.complete for name, svd in named.items()},
        )

    def plot(self) -> go.Figure:
        """Draw values beyond the rank pale and thresholds dotted; values far below their threshold are clipped."""
        drawing = figure("k", "singular value")
        floor = min((t for t in self.thresholds.values() if t > 0), default=0.0) / 1e4
        every = [max(v, floor) for values in self.singular_values.values() for v in values]
        shown = [v for v in (*every, *self.thresholds.values()) if v > 0]
        axis = log_axis(shown)
        drawing.update_yaxes(axis, exponentformat="power")
        if axis["type"] == "log" and shown:
            low, high = math.log10(min(shown)), math.log10(max(shown))
            drawing.update_yaxes(range=[low - 0.04 * (high - low), high + 0.04 * (high - low)])
        for i, (name, values) in enumerate(self.singular_values.items()):
            rank, threshold = self.ranks[name], self.thresholds[name]
            points(
                drawing,
                list(range(1, len(values) + 1)),
                [max(v, floor) or None for v in values],
                name,
                {"color": color(i), "size": 5, "opacity": [1.0 if k < rank else 0.25 for k in range(len(values))]},
                f"{name}, %{{x}}: %{{customdata}}",
                customdata=[f"{v:.4g}" + ("" if k < rank else ", beyond the rank") for k, v in enumerate(values)],
            )
            if threshold > 0:
                drawing.add_hline(y=threshold, line={"color": color(i), "width": 1, "dash": "dot"})
            if marked := min(rank, len(values)):
                last, side = values[marked - 1], 1 if marked <= 0.7 * len(values) else -1
                drawing.add_annotation(
                    x=marked,
                    y=math.log10(last) if axis["type"] == "log" else last,
                    text=f"rank {'' if self.complete.get(name, True) else 'at least '}{rank:,}",
                    arrowcolor=color(i),
                    arrowhead=0,
                    ax=24 * side,
                    ay=20 + 20 * i,
                    xanchor="left" if side > 0 else "right",
                )
        return drawing


@dataclass(frozen=True, eq=False)
class LearningDisplay:
    """The remaining residual in each principal direction while the linearised model is trained.

    Attributes:
        times: Times of gradient flow, or steps of gradient descent.
        residuals: |u_k' r(t)|, [times, k].
        singular_values: s_k.
        learned_at: The time or step at which each has shrunk by a factor e; infinite if never.
    """

    times: Array
    residuals: Array
    singular_values: Array
    learned_at: Array

    def __post_init__(self) -> None:
        (times,) = numbers("times", self.times, None)
        _, count = numbers("residuals", self.residuals, times, None)
        numbers("singular_values", self.singular_values, count)
        numbers("learned_at", self.learned_at, count)
        as_arrays(self)

    @classmethod
    def of(cls, trajectory: Trajectory, k: int = 8) -> LearningDisplay:
        """Return the display of the first k directions, or of all if there are fewer."""
        instance("trajectory", trajectory, Trajectory, "a Trajectory")
        k = at_least("k", k, 1)
        return cls(
            trajectory.times.double().cpu().numpy(),
            trajectory.residuals[:, :k].abs().double().cpu().numpy(),
            trajectory.singular_values[:k].double().cpu().numpy(),
            trajectory.learned_at[:k].double().cpu().numpy(),
        )

    def plot(self) -> go.Figure:
        """Draw both axes logarithmic; a dot marks when a direction has shrunk by e."""
        drawing = figure("time", "residual")
        later = self.times > 0
        times, residuals = self.times[later], self.residuals[later]
        floor = 1e-6 * float(self.residuals.max(initial=0.0))  # below it a direction is learned for all that one sees
        drawing.update_xaxes(log_axis(times))
        drawing.update_yaxes(log_axis(residuals[residuals > floor]), exponentformat="power")
        for k, column in enumerate(residuals.T):
            name = f"direction {k + 1}"
            style = {"color": color(k), "dash": dash(k), "width": 2}
            seen = np.where(column > floor, column, np.nan)
            line(drawing, times, seen, name, style, f"{name}, %{{x:.3g}}: %{{y:.3g}}")
            learned = float(self.learned_at[k])
            inside = len(times) > 0 and times[0] <= learned <= times[-1]
            points(
                drawing,
                [learned if inside else None],
                [float(np.interp(learned, times, column)) if inside else None],
                name,
                {"color": color(k), "size": 7},
                f"{name}, s = {self.singular_values[k]:.3g}: learned at %{{x:.3g}}",
                showlegend=False,
            )
        return drawing


@dataclass(frozen=True)
class ChangeDisplay:
    """How far the tangent features have moved since the start, over training.

    Attributes:
        steps: The steps of the linearizations, ascending.
        shares: By measure: numbers from 0 to 1 at these steps.
        counts: By measure: numbers of directions at these steps.
    """

    steps: Sequence[int]
    shares: Mapping[str, Sequence[float]]
    counts: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        (count,) = numbers("steps", self.steps, None)
        for name, measures in (("shares", self.shares), ("counts", self.counts)):
            series(name, measures, count)

    @classmethod
    def of(
        cls, linearizations: Mapping[int, Linearization], y: Tensor | None = None, ridge: float = 1e-3
    ) -> ChangeDisplay:
        """Return the display of a model's linearizations at the same examples.

        Args:
            linearizations: By step; each is compared with the first.
            y: The targets, n C numbers.
            ridge: The ridge of the effective rank, relative to the largest s_k^2.

        Raises:
            InvalidArgument: If there is none, or if they have different examples or parameters.
        """
        remedy = "Pass {step: linearization}."
        if not instance("linearizations", linearizations, Mapping, "a dict of linearizations", remedy=remedy):
            raise InvalidArgument("linearizations must hold at least one", got={}, remedy=remedy)
        ridge = in_range("ridge", ridge, "(0, inf)")
        first = next(iter(linearizations.values()))
        changes = [compare_linearizations(first, each) for each in linearizations.values()]
        shares = {
            "kernel alignment with the start": [change.kernel_alignment for change in changes],
            "subspace overlap with the start": [change.subspace_overlap for change in changes],
        }
        if y is not None:
            shares["kernel alignment with the target"] = [each.alignment(y).value for each in linearizations.values()]
        svds = [each.svd() for each in linearizations.values()]
        ridges = [ridge * float(svd.singular_values[0]) ** 2 for svd in svds]
        effective = [each.effective_rank(r) for each, r in zip(linearizations.values(), ridges, strict=True)]
        return cls(
            list(linearizations), shares, {"numerical rank": [svd.rank for svd in svds], "effective rank": effective}
        )

    def plot(self, at: int | None = None) -> go.Figure:
        """Draw the shares above the counts, equally spaced whatever the steps; a line marks the step `at`."""
        at = None if at is None else at_least("at", at, 0)
        drawing = figure("step", "share")
        drawing.update_layout(
            yaxis={"domain": [0.47, 1], "range": [-0.03, 1.03]},
            yaxis2={"domain": [0, 0.4], "rangemode": "tozero", "title": {"text": "directions"}},
            xaxis={"anchor": "y2", **_ordinal(self.steps)},
        )
        panels = ("y", self.shares), ("y2", self.counts)
        series = [(axis, name, values) for axis, measures in panels for name, values in measures.items()]
        for i, (axis, name, values) in enumerate(series):
            line(
                drawing,
                list(range(len(self.steps))),
                list(values),
                name,
                {"color": color(i), "width": 2},
                f"{name}, step %{{customdata}}: %{{y:.4g}}",
                yaxis=axis,
                customdata=[f"{step:,}" for step in self.steps],
                mode="lines+markers",
                marker={"size": 5},
            )
        if at is not None and at in self.steps:
            place = list(self.steps).index(at)
            drawing.add_shape(
                type="line", x0=place, x1=place, y0=0, y1=1, yref="paper", line={"color": GREY, "width": 1}
            )
        return drawing


def _ordinal(steps: Sequence[int]) -> dict[str, Any]:
    """Return the options of an axis with the steps equally spaced, at most six of them labelled, with the last."""
    places = list(range(len(steps) - 1, -1, -max(1, math.ceil(len(steps) / 6))))
    return {"tickvals": places, "ticktext": [f"{steps[place]:,}" for place in places]}
