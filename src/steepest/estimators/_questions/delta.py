"""What the step delta does to finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from steepest import _check
from steepest._figure import GREY, color, line, subplots
from steepest._series import Array, as_arrays, numbers, series
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._questions.ascent import Ascent, listed, whole_numbers
from steepest.estimators._questions.errors import Error, error_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["DeltaEffect", "delta_effect"]

DELTAS = tuple(float(f"{10**k:.2g}") for k in np.arange(-6, 0.6, 0.5))


@dataclass(frozen=True)
class DeltaEffect:
    """Errors of finite differences, and where ascents with them end, by delta and number of samples.

    Attributes:
        deltas: The steps, [k].
        samples: The numbers of samples N, [m].
        bias: By kind, "forward" or "central": the length of mean estimate - gradient over that of the gradient, [k];
            nan where it is not above twice its own standard error.
        error: By kind: the root mean square distance of an estimate from the gradient over its length, [m, k].
        value: By kind: the median over runs of the smoothed objective after the last step, [m, k].
        alone: By kind: the relative error of differences of f itself, without a smoothing, [k].
        evaluations: By kind: the evaluations of one estimate, [m].
        steps: The number of steps of a run.
    """

    deltas: Array
    samples: Array
    bias: Mapping[str, Array]
    error: Mapping[str, Array]
    value: Mapping[str, Array]
    alone: Mapping[str, Array]
    evaluations: Mapping[str, Array]
    steps: int

    def __post_init__(self) -> None:
        (k,), (m,) = numbers("deltas", self.deltas, None), numbers("samples", self.samples, None, whole=True)
        kinds = list(series("bias", self.bias, k))
        series("error", self.error, m, k, names=kinds)
        series("value", self.value, m, k, names=kinds)
        series("alone", self.alone, k, names=kinds)
        series("evaluations", self.evaluations, m, names=kinds, whole=True)
        _check.at_least("steps", self.steps, 1)
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw the errors above, and the values after the last step below."""
        kinds = list(self.error)
        titles = [f"{kind} differences" for kind in kinds] + [""] * len(kinds)
        drawing = subplots(
            2,
            len(kinds),
            subplot_titles=titles,
            shared_xaxes=True,
            shared_yaxes="rows",
            vertical_spacing=0.06,
            horizontal_spacing=0.08,
        )
        for col, kind in enumerate(kinds, start=1):
            for index, n in enumerate(self.samples):
                name, style = f"N = {n}", {"color": color(index), "width": 2}
                for row, of in ((1, self.error), (2, self.value)):
                    options = {"row": row, "col": col, "showlegend": row == col == 1}
                    hover = f"N = {n}, δ = %{{x:.2g}}: %{{y:.3g}}"
                    line(drawing, self.deltas, of[kind][index], name, style, hover, **options)
            bias = [None if np.isnan(each) else float(each) for each in self.bias[kind]]
            style = {"color": GREY, "width": 2, "dash": "dash"}
            line(drawing, self.deltas, bias, "bias", style, "bias: %{y:.3g}", row=1, col=col, showlegend=col == 1)
            style = {"color": GREY, "width": 2, "dash": "dot"}
            name = "f itself, σ = 0"
            line(drawing, self.deltas, self.alone[kind], name, style, "%{y:.2g}", row=1, col=col, showlegend=col == 1)
            drawing.update_xaxes(type="log", dtick=3, exponentformat="power", row=1, col=col)
            drawing.update_xaxes(type="log", dtick=3, exponentformat="power", title={"text": "δ"}, row=2, col=col)
            drawing.update_yaxes(type="log", dtick=2, exponentformat="power", row=1, col=col)
        drawing.update_yaxes(title={"text": "relative error"}, row=1, col=1)
        drawing.update_yaxes(title={"text": f"value after {self.steps} steps"}, row=2, col=1)
        legend = {"orientation": "h", "y": -0.16, "yanchor": "top"}
        return drawing.update_annotations(font={"size": 13}).update_layout(height=560, margin={"t": 30}, legend=legend)


def delta_effect(
    ascent: Ascent | None = None,
    *,
    deltas: Any = DELTAS,
    samples: Any = (1, 20, 100),
    repetitions: int = 500,
    runs: int = 50,
    seed: int = 0,
) -> DeltaEffect:
    """Measure what delta and the number of samples do to finite differences of a smoothed objective.

    A forward difference has the bias delta f'' / 2, a central one delta^2 f''' / 6; rounding adds eps |f| / delta, with
    eps of the data type of the start. Samples x + sigma e reduce the spread as 1 / sqrt(N), and leave the bias.

    Args:
        ascent: The objective, the point, the scale of the smoothing, and the steps; None for the reference problem.
        deltas: The steps of the differences, > 0, in the units of x.
        samples: Numbers of samples N, >= 1, of d + 1 evaluations each (central: 2 d).
        repetitions: Estimates from which each error is found, >= 2.
        runs: Ascents from which each value after the last step is found, >= 1.
        seed: Of all samples.

    Raises:
        InvalidArgument: If an argument is outside its range, or the start is no point.
        EvaluationFailed: If the objective raises an error.

    >>> effect = delta_effect(deltas=(0.001, 0.25), samples=(20,), runs=5)
    >>> small, large = effect.bias["forward"]
    >>> bool(large > 0.05), effect.evaluations["forward"].tolist()
    (True, [60])
    """
    ascent = Ascent() if ascent is None else _check.instance("ascent", ascent, Ascent, "an Ascent or None")
    steps, counts = listed("deltas", deltas, "(0, inf)"), whole_numbers("samples", samples)
    _check.at_least("repetitions", repetitions, 2, most=10**6)
    _check.at_least("runs", runs, 1, most=10**6)
    _check.at_least("seed", seed, 0, most=2**63 - 1)
    gradient, starts = ascent._gradient(), ascent._point().expand(runs, *ascent._point().shape)
    bias: dict[str, Array] = {}
    error: dict[str, Array] = {}
    value: dict[str, Array] = {}
    alone: dict[str, Array] = {}
    evaluations: dict[str, Array] = {}
    for kind in ("forward", "central"):
        found: list[list[Error]] = []
        ends: list[list[float]] = []
        costs: list[int] = []
        for n in counts:
            made = [FiniteDifference(each, n, ascent.sigma, kind == "central", worst="smallest") for each in steps]
            found.append([error_of(source, ascent, gradient, repetitions, seed) for source in made])
            paths = [ascent._from_starts(source, starts, ascent.step, seed)[:, -1] for source in made]
            ends.append([float(ascent._smoothed(last).median()) for last in paths])
            costs.append(made[0].evaluations(starts[0]))
        most = found[-1]
        bias[kind] = np.array([each.bias if each.bias > 2 * each.bias_error else np.nan for each in most])
        error[kind] = np.array([[each.total for each in of] for of in found])
        alone[kind] = _without_smoothing(ascent, steps, central=kind == "central")
        value[kind], evaluations[kind] = np.array(ends), np.array(costs)
    return DeltaEffect(np.array(steps), np.array(counts), bias, error, value, alone, evaluations, ascent.steps)


def _without_smoothing(ascent: Ascent, deltas: list[float], *, central: bool) -> Array:
    """Return the relative errors of differences of f at the start; the gradient is a central difference in float64."""
    point = ascent._point()
    exact = FiniteDifference()(ascent.objective, point.double()).gradient
    assert isinstance(exact, Tensor)
    found: list[float] = []
    for delta in deltas:
        estimate = FiniteDifference(delta, central=central)(ascent.objective, point).gradient
        assert isinstance(estimate, Tensor)
        found.append(float((estimate - exact).norm() / (exact.norm() or 1.0)))
    return np.array(found)
