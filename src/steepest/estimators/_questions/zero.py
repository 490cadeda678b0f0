"""Where a gradient is zero although the objective is not constant, and which estimators make way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest import _check
from steepest._figure import color, dash, line, points, subplots
from steepest._objectives import multimodal, quantize
from steepest._series import Array, as_arrays, numbers, series
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._questions.ascent import Ascent
from steepest.estimators._questions.differentiable import allowed, names
from steepest.estimators._questions.many import values_at
from steepest.estimators._questions.plane import Plane
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["ZeroGradient", "zero_gradient"]


@dataclass(frozen=True)
class ZeroGradient:
    """Ascents on an objective that is constant between jumps.

    Attributes:
        zero: By source: the share of all steps of all runs whose gradient was exactly zero.
        reached: By source: the share of runs that were at the level after each step, [steps + 1].
        visited: By source: the share of runs that had been there by then, [steps + 1].
        level: The value that counts as reached.
        runs: The number of runs, from which a share has the standard error sqrt(p (1 - p) / runs).
        paths: By source: the path of one run, [steps + 1, d].
        plane: Contours of the objective, in two dimensions.
        left_out: The usual sources that backpropagate, where the objective has no gradient by autograd.
    """

    zero: Mapping[str, float]
    reached: Mapping[str, Array]
    visited: Mapping[str, Array]
    level: float
    runs: int
    paths: Mapping[str, Array]
    plane: Plane | None = None
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        known = list(series("zero", self.zero))
        series("reached", self.reached, None, names=known)
        series("visited", self.visited, None, names=known)
        _check.finite("level", self.level)
        _check.at_least("runs", self.runs, 1)
        series("paths", self.paths, None, None, names=known)
        _check.instance("plane", self.plane, (Plane, type(None)), "a Plane or None")
        object.__setattr__(self, "left_out", names("left_out", self.left_out))
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw the share of runs at the level by step; in two dimensions beside one path of each source."""
        flat = self.plane is not None
        numbers("the steps", next(iter(self.reached.values())), None)
        titles = ["one run of each", f"runs at level {self.level:g}"][0 if flat else 1 :]
        drawing = subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.12)
        for index, (name, shares) in enumerate(self.reached.items()):
            style = {"color": color(index), "width": 2, "dash": dash(index)}
            hover = f"{name}, step %{{x}}: %{{y:.1%}}"
            line(drawing, np.arange(len(shares)), shares, name, style, hover, row=1, col=len(titles))
            if flat:
                path, place = self.paths[name], {"row": 1, "col": 1, "showlegend": False}
                line(drawing, path[:, 0], path[:, 1], name, style, "", **place)
                marker = {"color": color(index), "size": 9, "symbol": "x"}
                points(drawing, path[-1:, 0], path[-1:, 1], name, marker, f"{name}: the end", **place)
        if self.plane is not None:
            self.plane.draw(drawing, 1, 1)
        drawing.update_xaxes(title={"text": "step"}, row=1, col=len(titles))
        drawing.update_yaxes(tickformat=".0%", range=[-0.03, 1.03], row=1, col=len(titles))
        legend = {"orientation": "h", "y": -0.22, "yanchor": "top"}
        return drawing.update_annotations(font={"size": 13}).update_layout(height=440, margin={"t": 30}, legend=legend)


def zero_gradient(
    ascent: Ascent | None = None,
    sources: Mapping[str, GradientSource] | None = None,
    *,
    level: float | None = None,
    runs: int = 2000,
    seed: int = 0,
) -> ZeroGradient:
    """Measure which estimators make way on an objective whose gradient is zero wherever it exists.

    Of an f that is constant between jumps, backpropagation and the pathwise estimator find the gradient zero, and stay
    where they are. The smoothed E f(x + sigma e) has a gradient, since the jumps move into and out of reach of the
    samples, and a score function estimates it from the values of f alone.

    Args:
        ascent: The objective, the start, the scale of the smoothing, step size and steps; None for the quantised
            reference objective floor(f / 4.5 + .64) with step size .5, of which the highest of six levels is 1.
        sources: By name; None for backpropagation and pathwise gradients, unless the objective has none by autograd,
            forward differences, and score functions of single samples without a baseline.
        level: The value that counts as reached; None for the highest one at which a run has been.
        runs: Runs for each, >= 1.
        seed: Of all samples and starts.

    Raises:
        InvalidArgument: If an argument is outside its range, or f does not depend on x by operations of autograd where
            a source needs that.
        EvaluationFailed: If the objective raises an error.

    >>> found = zero_gradient(runs=100)
    >>> found.zero["backpropagation"], found.zero["pathwise, N = 50"], found.level
    (1.0, 1.0, 1.0)
    >>> bool(found.reached["score function, N = 50"][-1] > 0.6)
    True
    """
    if ascent is None:
        ascent = Ascent(quantize(multimodal), step=0.5)
    _check.instance("ascent", ascent, Ascent, "an Ascent or None")
    if level is not None:
        _check.finite("level", level)
    _check.at_least("runs", runs, 1, most=10**6)
    _check.at_least("seed", seed, 0, most=2**63 - 1)
    starts = ascent._starts(runs, seed)
    made, left_out = allowed(ascent.objective, starts[0], sources, _usual(ascent.sigma))
    walked = {name: ascent._from_starts(source, starts, ascent.step, seed) for name, source in made.items()}
    heights = {
        name: values_at(ascent.objective, each.flatten(0, 1)).view(each.shape[:2]).cpu().double().numpy()
        for name, each in walked.items()
    }
    if level is None:
        level = float(max(np.nanmax(each) for each in heights.values()))
    there = {name: each >= level for name, each in heights.items()}
    paths = {name: each[0].flatten(1).cpu().double().numpy() for name, each in walked.items()}
    return ZeroGradient(
        {name: float((each.diff(dim=1).flatten(2) == 0).all(-1).double().mean()) for name, each in walked.items()},
        {name: each.mean(0) for name, each in there.items()},
        {name: np.maximum.accumulate(each, 1).mean(0) for name, each in there.items()},
        level,
        runs,
        paths,
        Plane.around(ascent.objective, np.concatenate(list(paths.values())), starts) if starts.ndim == 2 else None,
        left_out,
    )


def _usual(sigma: float) -> dict[str, Any]:
    def plain(n: int) -> ScoreFunction:
        return ScoreFunction(sigma, n, antithetic=False, baseline=None, worst="smallest")

    return {
        "backpropagation": Backprop(),
        "pathwise, N = 50": Pathwise(sigma, 50, worst="smallest"),
        "forward differences, N = 16": FiniteDifference(0.25, 16, sigma, central=False, worst="smallest"),
        "score function, N = 50": plain(50),
        "score function, N = 20": plain(20),
        "score function, N = 10": plain(10),
    }
