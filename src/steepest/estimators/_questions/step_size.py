"""What the step size and the number of samples do to ascents along estimated gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from steepest import _check
from steepest._figure import band, color, line, log_axis, subplots, translucent
from steepest._series import Array, as_arrays, numbers, series
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._questions.ascent import Ascent, BySamples, listed, named_sources, whole_numbers
from steepest.estimators._questions.many import evaluations_of
from steepest.estimators._score_function import ScoreFunction

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["StepSizeEffect", "finite_difference", "score_function", "step_size_effect"]

STEP_SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class StepSizeEffect:
    """Where ascents end, by step size and number of samples.

    Attributes:
        step_sizes: The step sizes, [k].
        samples: The numbers of samples N, [m].
        values: By source: the lower quartile, median and upper quartile over runs of the smoothed objective after the
            last step, [m, k, 3]; nan where the objective has no number there.
        evaluations: By source: the evaluations of one step, [m].
        steps: The number of steps of a run.
    """

    step_sizes: Array
    samples: Array
    values: Mapping[str, Array]
    evaluations: Mapping[str, Array]
    steps: int

    def __post_init__(self) -> None:
        (k,), (m,) = numbers("step_sizes", self.step_sizes, None), numbers("samples", self.samples, None, whole=True)
        names = list(series("values", self.values, m, k, 3))
        series("evaluations", self.evaluations, m, names=names, whole=True)
        _check.at_least("steps", self.steps, 1)
        as_arrays(self)

    @property
    def best(self) -> dict[str, Array]:
        """By source: the step size with the highest median for each number of samples, [m]; nan where all diverge."""
        return {name: np.array([self._best(row) for row in each[:, :, 1]]) for name, each in self.values.items()}

    def _best(self, medians: Array) -> float:
        known = np.isfinite(medians)
        return float(self.step_sizes[known][medians[known].argmax()]) if known.any() else np.nan

    def plot(self) -> go.Figure:
        """Draw the median over the step size for each number of samples, with its quartiles."""
        drawing = subplots(
            1, len(self.values), subplot_titles=list(self.values), shared_yaxes=True, horizontal_spacing=0.08
        )
        for col, (name, values) in enumerate(self.values.items(), start=1):
            for index, n in enumerate(self.samples):
                label, place = f"N = {n}", {"row": 1, "col": col}
                low, middle, high = np.moveaxis(values[index], -1, 0)
                known = np.isfinite(low) & np.isfinite(high)
                fill = translucent(color(index), 0.15)
                band(drawing, self.step_sizes[known], low[known], high[known], label, fill, **place)
                hover = f"{label} ({self.evaluations[name][index]} evaluations), step size %{{x:g}}: %{{y:.3g}}"
                style = {"color": color(index), "width": 2}
                line(drawing, self.step_sizes, middle, label, style, hover, **place, showlegend=col == 1)
            drawing.update_xaxes(**log_axis(self.step_sizes), title={"text": "step size"}, row=1, col=col)
        every = np.concatenate([each.ravel() for each in self.values.values()])
        if np.isfinite(every).any():
            low, top = float(np.nanmin(every)), float(np.nanmax(every))
            start = float(np.nanmedian([each[:, 0, 1] for each in self.values.values()]))
            low = max(low, min(start, top) - 0.8 * (top - start))
            drawing.update_yaxes(range=[low - 0.05 * (top - low), top + 0.05 * (top - low)])
        drawing.update_yaxes(title={"text": f"value after {self.steps} steps"}, row=1, col=1)
        legend = {"orientation": "h", "y": -0.2, "yanchor": "top"}
        return drawing.update_annotations(font={"size": 13}).update_layout(height=440, margin={"t": 30}, legend=legend)


def step_size_effect(
    ascent: Ascent | None = None,
    sources: BySamples | None = None,
    *,
    step_sizes: Any = STEP_SIZES,
    samples: Any = (1, 5, 20, 100),
    runs: int = 100,
    seed: int = 0,
) -> StepSizeEffect:
    """Measure where ascents end, by step size and number of samples.

    Few samples demand a small step: near a maximum the points fluctuate with a variance that is proportional to the
    step size, and to the variance of the estimate, which is proportional to 1 / N.

    Args:
        ascent: The objective, the start, the scale of the smoothing, and the steps; None for the reference problem.
        sources: By name: a function from N to a source; None for forward differences with delta = .25, and the score
            function with a leave-one-out baseline.
        step_sizes: The step sizes, > 0.
        samples: The numbers of samples N, >= 1.
        runs: Runs for each, >= 1.
        seed: Of all samples and starts.

    Raises:
        InvalidArgument: If an argument is outside its range.
        EvaluationFailed: If the objective raises an error.

    >>> effect = step_size_effect(step_sizes=(0.01, 0.1), samples=(20,), runs=20)
    >>> effect.best["score function"].tolist()
    [0.1]
    """
    ascent = Ascent() if ascent is None else _check.instance("ascent", ascent, Ascent, "an Ascent or None")
    usual: Any = {"finite differences": finite_difference(ascent), "score function": score_function(ascent)}
    made = usual if sources is None else named_sources(sources)
    sizes, counts = listed("step_sizes", step_sizes, "(0, inf)"), whole_numbers("samples", samples)
    _check.at_least("runs", runs, 1, most=10**6)
    _check.at_least("seed", seed, 0, most=2**63 - 1)
    starts = ascent._starts(runs, seed)
    values: dict[str, Array] = {}
    evaluations: dict[str, Array] = {}
    for name, build in made.items():
        of = [build(n) for n in counts]
        ends = [[ascent._from_starts(each, starts, size, seed)[:, -1] for size in sizes] for each in of]
        found = [[ascent._smoothed(last) for last in row] for row in ends]
        values[name] = np.array([[_quartiles(each) for each in row] for row in found])
        evaluations[name] = np.array([evaluations_of(each, starts[0]) for each in of])
    return StepSizeEffect(np.array(sizes), np.array(counts), values, evaluations, ascent.steps)


def finite_difference(ascent: Ascent) -> Any:
    """Return the function from N to forward differences of N samples, with delta = .25."""
    return lambda n: FiniteDifference(0.25, n, ascent.sigma, central=False, worst="smallest")


def score_function(ascent: Ascent) -> Any:
    """Return the function from N to a score function of N single samples."""

    def build(n: int) -> ScoreFunction:
        baseline = "leave-one-out" if n > 1 else None
        return ScoreFunction(ascent.sigma, n, antithetic=False, baseline=baseline, worst="smallest")

    return build


def _quartiles(values: torch.Tensor) -> list[float]:
    found = values.cpu().double().numpy()
    return np.quantile(found, (0.25, 0.5, 0.75)).tolist() if np.isfinite(found).all() else [np.nan] * 3
