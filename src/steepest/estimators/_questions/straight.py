"""How straight the paths of estimators are, and how much their estimates vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest import _check
from steepest._figure import band, color, line, log_axis, points, subplots, translucent
from steepest._series import Array, as_arrays, numbers, series
from steepest.estimators._pathwise import Pathwise
from steepest.estimators._questions.ascent import Ascent, BySamples, whole_numbers
from steepest.estimators._questions.differentiable import allowed, names
from steepest.estimators._questions.errors import error_of
from steepest.estimators._questions.many import called_one_by_one
from steepest.estimators._questions.plane import Plane
from steepest.estimators._questions.step_size import score_function
from steepest.estimators._score_function import ScoreFunction

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Straightness", "straightness"]


@dataclass(frozen=True)
class Straightness:
    """How straight paths are, by source and number of samples.

    Attributes:
        samples: The numbers of samples N, [m].
        ratio: By source: the lower quartile, median and upper quartile over runs of the length of a path over the
            distance between its ends, [m, 3]; 1 is a straight line, and inf a path that has no end.
        spread: By source: the root mean square distance of an estimate at the start from the mean estimate, over the
            length of the gradient, [m]; nan where that is zero.
        paths: By source: one path for the smallest and one for a middle N, [2, steps + 1, d].
        shown: These two N.
        plane: Contours of the smoothed objective, in two dimensions.
        left_out: The usual sources that backpropagate, where the objective has no gradient by autograd.
    """

    samples: Array
    ratio: Mapping[str, Array]
    spread: Mapping[str, Array]
    paths: Mapping[str, Array]
    shown: tuple[int, int]
    plane: Plane | None = None
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        (m,) = numbers("samples", self.samples, None, whole=True)
        known = list(series("ratio", self.ratio, m, 3))
        series("spread", self.spread, m, names=known)
        series("paths", self.paths, 2, None, None, names=known)
        numbers("shown", self.shown, 2, whole=True)
        _check.instance("plane", self.plane, (Plane, type(None)), "a Plane or None")
        object.__setattr__(self, "left_out", names("left_out", self.left_out))
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw ratio and spread over the number of samples; in two dimensions below paths."""
        flat = self.plane is not None
        titles = [f"paths, N = {n}" for n in self.shown] if flat else []
        titles += ["length / distance", "relative spread"]
        rows = 2 if flat else 1
        drawing = subplots(rows, 2, subplot_titles=titles, horizontal_spacing=0.12, vertical_spacing=0.14)
        for index, (name, paths) in enumerate(self.paths.items()):
            style = {"color": color(index), "width": 2}
            for col in (1, 2) if flat else ():
                path, place = paths[col - 1], {"row": 1, "col": col}
                line(drawing, path[:, 0], path[:, 1], name, style, "", **place, showlegend=False)
                end = {"color": color(index), "size": 9, "symbol": "x"}
                points(drawing, path[-1:, 0], path[-1:, 1], name, end, f"{name}: the end", **place, showlegend=False)
            low, middle, high = self.ratio[name].T
            known = np.isfinite(low) & np.isfinite(high)
            fill, place = translucent(color(index), 0.15), {"row": rows, "col": 1}
            band(drawing, self.samples[known], low[known], high[known], name, fill, **place)
            line(drawing, self.samples, middle, name, style, f"{name}, N = %{{x}}: %{{y:.2f}}", **place)
            hover = f"{name}, N = %{{x}}: %{{y:.2g}}"
            line(drawing, self.samples, self.spread[name], name, style, hover, row=rows, col=2, showlegend=False)
        if self.plane is not None:
            for col in (1, 2):
                self.plane.draw(drawing, 1, col)
        for col, of in enumerate((self.ratio, self.spread), start=1):
            drawing.update_xaxes(**log_axis(self.samples), title={"text": "samples, N"}, row=rows, col=col)
            everything = np.concatenate([each.ravel() for each in of.values()])
            drawing.update_yaxes(**log_axis(everything[np.isfinite(everything)]), row=rows, col=col)
        legend = {"orientation": "h", "y": -0.14 if flat else -0.22, "yanchor": "top"}
        drawing.update_annotations(font={"size": 13})
        return drawing.update_layout(height=680 if flat else 440, margin={"t": 30}, legend=legend)


def straightness(
    ascent: Ascent | None = None,
    sources: BySamples | None = None,
    *,
    samples: Any = (1, 2, 5, 10, 20, 50, 100),
    runs: int = 200,
    repetitions: int = 1000,
    seed: int = 0,
) -> Straightness:
    """Measure how straight the paths of estimators are: their length over the distance of their ends.

    The variance of an estimate makes a path crooked. That of a pathwise gradient is the variance of grad f within reach
    of the samples: a single sample gives a direction. That of a score function is about the variance of f over sigma^2
    for each coordinate; without a baseline also its squared mean over sigma^2, however flat f is. On a slope the
    pathwise gradient therefore varies less; among waves whose wave number is above 1 / sigma the score function does.

    Args:
        ascent: The objective, the start, the scale of the smoothing, step size and steps; None for the reference
            problem.
        sources: By name: a function from N to a source; None for the pathwise gradient, unless the objective has none,
            and the score function with a leave-one-out baseline (for N = 1: without one) and without a baseline.
        samples: The numbers of samples N, >= 1.
        runs: Runs for each, >= 1.
        repetitions: Estimates from which each spread is found, >= 2.
        seed: Of all samples.

    Raises:
        InvalidArgument: If an argument is outside its range, the start is no point, or a source of `sources` needs a
            gradient of an objective that has none.
        EvaluationFailed: If the objective raises an error.

    >>> found = straightness(samples=(1, 20), runs=50, repetitions=200)
    >>> bool(found.ratio["pathwise"][0, 1] < found.ratio["score function"][0, 1] / 10)  # N = 1
    True
    """
    ascent = Ascent() if ascent is None else _check.instance("ascent", ascent, Ascent, "an Ascent or None")
    usual: Any = {
        "pathwise": lambda n: Pathwise(ascent.sigma, n, worst="smallest"),
        "score function": score_function(ascent),
        "score function, no baseline": lambda n: ScoreFunction(
            ascent.sigma, n, antithetic=False, baseline=None, worst="smallest"
        ),
    }
    counts = whole_numbers("samples", samples)
    _check.at_least("runs", runs, 1, most=10**6)
    _check.at_least("repetitions", repetitions, 2, most=10**6)
    _check.at_least("seed", seed, 0, most=2**63 - 1)
    point = ascent._point()
    made, left_out = allowed(ascent.objective, point, sources, usual, lambda build: build(counts[0]))
    gradient, starts = ascent._gradient(), ascent._point().expand(runs, *ascent._point().shape)
    middle = min(range(len(counts)), key=lambda i: abs(np.log(counts[i] / 20)))
    ratio: dict[str, Array] = {}
    spread: dict[str, Array] = {}
    paths: dict[str, Array] = {}
    for name, build in made.items():
        of = [build(n) for n in counts]
        walked = [ascent._from_starts(each, starts, ascent.step, seed).flatten(2).cpu().double().numpy() for each in of]
        ratio[name] = np.array([np.quantile(_ratios(each), (0.25, 0.5, 0.75), method="higher") for each in walked])
        spread[name] = np.array([error_of(each, ascent, gradient, repetitions, seed).spread for each in of])
        paths[name] = np.stack([walked[0][0], walked[middle][0]])
    plane = None
    if point.ndim == 1:
        tame, coarse = _tame(np.concatenate(list(paths.values()))), called_one_by_one(ascent.objective, point)
        plane = Plane.around(ascent._smoothed, tame, starts, coarse=coarse)
    return Straightness(np.array(counts), ratio, spread, paths, (counts[0], counts[middle]), plane, left_out)


def _tame(paths: Array) -> Array:
    """Return the points of the paths that stay within a few times the extent of the shortest one."""
    extent = np.nan_to_num(np.abs(paths - paths[:, :1]).max((1, 2)), nan=np.inf)
    return paths[extent <= 3 * extent.min()].reshape(-1, paths.shape[-1])


def _ratios(paths: Array) -> Array:
    """Return length over distance of the ends for paths [runs, steps + 1, d]; inf where that has no number."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        length = np.linalg.norm(np.diff(paths, axis=1), axis=-1).sum(1)
        ratio = length / np.linalg.norm(paths[:, -1] - paths[:, 0], axis=-1)
    return np.where(np.isfinite(ratio), ratio, np.inf)
