"""Which estimator needs fewer evaluations: for an error of the gradient, and for a value of the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest import _check
from steepest._figure import color, dash, line, log_axis, subplots
from steepest._series import Array, as_arrays, numbers, series
from steepest.estimators._pathwise import Pathwise
from steepest.estimators._questions.ascent import Ascent, BySamples, whole_numbers
from steepest.estimators._questions.differentiable import allowed, names
from steepest.estimators._questions.errors import Error, error_of
from steepest.estimators._questions.many import evaluations_of
from steepest.estimators._questions.step_size import finite_difference, score_function
from steepest.estimators._score_function import ScoreFunction

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["SampleEfficiency", "sample_efficiency"]


@dataclass(frozen=True)
class SampleEfficiency:
    """What estimators attain with their evaluations.

    Attributes:
        samples: The numbers of samples N, [m].
        evaluations: By source: the evaluations of one estimate, [m].
        bias: By source: the length of mean estimate - gradient over that of the gradient, at the start, [m]; below
            twice its own standard error it counts as 0. It is nan where the gradient is zero.
        spread: By source: the root mean square distance of an estimate from the mean estimate, in the same unit, [m].
        to_target: By source: the median over runs of the evaluations until the target is reached, [m]; inf where fewer
            than half of the runs reach it.
        target: The value of the smoothed objective that is to be reached.
        left_out: The usual sources that backpropagate, where the objective has no gradient by autograd.
    """

    samples: Array
    evaluations: Mapping[str, Array]
    bias: Mapping[str, Array]
    spread: Mapping[str, Array]
    to_target: Mapping[str, Array]
    target: float
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        (m,) = numbers("samples", self.samples, None, whole=True)
        known = list(series("evaluations", self.evaluations, m, whole=True))
        for name in ("bias", "spread", "to_target"):
            series(name, getattr(self, name), m, names=known)
        _check.finite("target", self.target)
        object.__setattr__(self, "left_out", names("left_out", self.left_out))
        as_arrays(self)

    @property
    def error(self) -> dict[str, Array]:
        """By source: the root mean square distance of an estimate from the gradient, over its length, [m]."""
        return {name: np.hypot(self.bias[name], self.spread[name]) for name in self.spread}

    def evaluations_for(self, error: float) -> dict[str, float]:
        """Return by source the evaluations of an estimate with a relative error; inf where its bias is larger.

        The estimate is the mean of as many as are needed with the fewest samples, one at least. The variance times the
        evaluations is taken from all N, in proportion to which it falls. Where the gradient is zero, as for a constant
        objective, no error is relative to it: nan.

        Args:
            error: The relative root mean square error, > 0.

        Raises:
            InvalidArgument: If it is not positive.
        """
        wanted = _check.in_range("error", error, "(0, inf)")
        found: dict[str, float] = {}
        for name, spread in self.spread.items():
            variance, bias = float((spread**2 * self.evaluations[name]).mean()), float(self.bias[name][-1])
            allowed_variance, one = wanted**2 - bias**2, max(1, int(self.evaluations[name].min()))
            if math.isnan(variance) or math.isnan(bias):
                found[name] = math.nan
            elif allowed_variance <= 0 or math.isinf(estimates := variance / allowed_variance / one):
                found[name] = math.inf
            else:
                found[name] = one * max(1, math.ceil(estimates))
        return found

    @property
    def fewest_to_target(self) -> dict[str, float]:
        """By source: the fewest evaluations until the target is reached, with the best number of samples."""
        return {name: float(each.min()) for name, each in self.to_target.items()}

    def plot(self) -> go.Figure:
        """Draw the error, and the evaluations to the target, over the evaluations of one estimate."""
        titles = ["error of the gradient", f"evaluations to {self.target:.2g}"]
        drawing = subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.12)
        for col, of in enumerate((self.error, self.to_target), start=1):
            everything: list[float] = []
            for index, (name, values) in enumerate(of.items()):
                cost = self.evaluations[name]
                y = [float(each) if np.isfinite(each) else None for each in values]
                everything += [each for each in y if each is not None]
                told = "%{y:.3g}" if col == 1 else "%{y:,} evaluations"
                style = {"color": color(index), "width": 2, "dash": dash(index)}
                hover = f"{name}, %{{x}} evaluations: {told}"
                options = {"row": 1, "col": col, "showlegend": col == 1, "mode": "lines+markers"}
                line(drawing, cost, y, name, style, hover, **options, marker={"size": 6})
            costs = np.concatenate([*self.evaluations.values()])
            title = {"text": "evaluations / estimate", "font": {"size": 12}}
            drawing.update_xaxes(**log_axis(costs), title=title, row=1, col=col)
            drawing.update_yaxes(**log_axis(everything), row=1, col=col)
        legend = {"orientation": "h", "y": -0.22, "yanchor": "top"}
        return drawing.update_annotations(font={"size": 13}).update_layout(height=440, margin={"t": 30}, legend=legend)


def sample_efficiency(
    ascent: Ascent | None = None,
    sources: BySamples | None = None,
    *,
    samples: Any = (2, 4, 10, 20, 50, 100),
    target: float | None = None,
    repetitions: int = 1000,
    runs: int = 100,
    seed: int = 0,
) -> SampleEfficiency:
    """Measure how many evaluations estimators need, for an error of the gradient and for a value of the objective.

    Args:
        ascent: The objective, the point, the scale of the smoothing, step size and steps; None for the reference
            problem.
        sources: By name: a function from N to a source; None for forward differences (delta = .25), the score function
            with a leave-one-out baseline and with antithetic pairs, and the pathwise gradient unless the objective has
            none.
        samples: The numbers of samples N, >= 1; even for antithetic pairs.
        target: The value of the smoothed objective to be reached; None for nine tenths of the way from the start to the
            highest median at which runs of a source and N end.
        repetitions: Estimates from which each error is found, >= 2.
        runs: Ascents for each, >= 1.
        seed: Of all samples.

    Raises:
        InvalidArgument: If an argument is outside its range, the start is no point, or a source of `sources` needs a
            gradient of an objective that has none.
        EvaluationFailed: If the objective raises an error.

    >>> found = sample_efficiency(samples=(10, 50), repetitions=200, runs=20)
    >>> needed = found.evaluations_for(error=0.5)
    >>> needed["pathwise"] < needed["score function"]
    True
    """
    ascent = Ascent() if ascent is None else _check.instance("ascent", ascent, Ascent, "an Ascent or None")
    counts = whole_numbers("samples", samples)
    if target is not None:
        _check.finite("target", target)
    _check.at_least("repetitions", repetitions, 2, most=10**6)
    _check.at_least("runs", runs, 1, most=10**6)
    _check.at_least("seed", seed, 0, most=2**63 - 1)
    point = ascent._point()
    made, left_out = allowed(ascent.objective, point, sources, _usual(ascent), lambda build: build(counts[0]))
    gradient, starts = ascent._gradient(), ascent._point().expand(runs, *ascent._point().shape)
    heights: dict[str, list[Array]] = {}
    errors: dict[str, list[Error]] = {}
    evaluations: dict[str, Array] = {}
    for name, build in made.items():
        of = [build(n) for n in counts]
        evaluations[name] = np.array([evaluations_of(each, starts[0]) for each in of])
        errors[name] = [error_of(each, ascent, gradient, repetitions, seed) for each in of]
        heights[name] = [_heights(ascent, ascent._from_starts(each, starts, ascent.step, seed)) for each in of]
    first = float(ascent._smoothed(starts[:1]))
    if target is None:
        ends = [float(np.median(each[:, -1])) for of in heights.values() for each in of]
        target = first + 0.9 * (max([first, *(each for each in ends if np.isfinite(each))]) - first)
    reached = {name: np.array([_until(each, target) for each in of]) for name, of in heights.items()}
    return SampleEfficiency(
        np.array(counts),
        evaluations,
        {
            name: np.array([0.0 if each.bias <= 2 * each.bias_error else each.bias for each in of])
            for name, of in errors.items()
        },
        {name: np.array([each.spread for each in of]) for name, of in errors.items()},
        {name: steps * evaluations[name] for name, steps in reached.items()},
        target,
        left_out,
    )


def _usual(ascent: Ascent) -> dict[str, Any]:
    return {
        "finite differences": finite_difference(ascent),
        "score function": score_function(ascent),
        "score function, pairs": lambda n: ScoreFunction(ascent.sigma, n, worst="smallest"),
        "pathwise": lambda n: Pathwise(ascent.sigma, n, worst="smallest"),
    }


def _heights(ascent: Ascent, paths: Any) -> Array:
    """Return the smoothed objective along paths [runs, steps + 1, *shape], [runs, steps + 1]."""
    return ascent._smoothed(paths.flatten(0, 1)).view(paths.shape[:2]).cpu().double().numpy()


def _until(heights: Array, target: float) -> float:
    """Return the median over runs of the number of steps until the target is reached; inf if most do not reach it."""
    above = heights >= target
    steps = np.where(above.any(1), above.argmax(1), np.inf)
    return float(np.sort(steps)[len(steps) // 2])
