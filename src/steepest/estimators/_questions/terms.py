"""How every sample of a score function pulls the point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from steepest import _check
from steepest._figure import color, subplots
from steepest._series import Array, as_arrays, numbers
from steepest.errors import InvalidArgument
from steepest.estimators._questions.ascent import Ascent
from steepest.estimators._questions.many import values_at
from steepest.estimators._questions.plane import Plane

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["ScoreFunctionTerms", "score_function_terms"]


@dataclass(frozen=True)
class ScoreFunctionTerms:
    """The terms whose mean is a score-function estimate, without and with a baseline.

    Attributes:
        point: x, [d].
        samples: x + sigma e, [n, d].
        values: f there, [n].
        terms: f e / sigma, [n, d].
        centred: (f - b) e / sigma with the mean of the other samples as b, [n, d].
        gradient: The gradient of the smoothed objective at x, [d].
        plane: Contours of the objective, in two dimensions.
    """

    point: Array
    samples: Array
    values: Array
    terms: Array
    centred: Array
    gradient: Array
    plane: Plane | None = None

    def __post_init__(self) -> None:
        (d,) = numbers("point", self.point, None)
        n, _ = numbers("samples", self.samples, None, d)
        numbers("values", self.values, n)
        for name in ("terms", "centred"):
            numbers(name, getattr(self, name), n, d)
        numbers("gradient", self.gradient, d)
        _check.instance("plane", self.plane, (Plane, type(None)), "a Plane or None")
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw the first two coordinates: the terms as lines from the samples, their mean and the gradient from x.

        Raises:
            InvalidArgument: If there is one coordinate alone.
        """
        if len(self.point) < 2:
            raise InvalidArgument("a plot must have two coordinates", got="one", remedy="Read .terms and .values.")
        drawing = subplots(1, 2, subplot_titles=["no baseline", "leave-one-out"], shared_yaxes=True)
        box = np.concatenate([self.samples[:, :2], self.point[None, :2]])
        reach = float((box.max(0) - box.min(0)).max())
        for col, terms in enumerate((self.terms, self.centred), start=1):
            if self.plane is not None:
                self.plane.draw(drawing, 1, col)
            place, mean = {"row": 1, "col": col}, terms.mean(0)
            scale = 0.35 * reach / max(float(np.linalg.norm(terms[:, :2], axis=1).max()), 1e-12)
            longest = max(float(np.linalg.norm(each[:2])) for each in (mean, self.gradient))
            far = 0.4 * reach / max(longest, 1e-12)
            for start, end in zip(self.samples[:, :2], self.samples[:, :2] + scale * terms[:, :2], strict=True):
                _arrow(drawing, start, end, color(0), 1, place)
            shown = {"legendgroup": "terms", "showlegend": col == 1}
            drawing.add_scatter(
                x=self.samples[:, 0],
                y=self.samples[:, 1],
                mode="markers",
                marker={"size": 7, "color": color(0)},
                name="samples, and their pulls",
                customdata=self.values,
                hovertemplate="f = %{customdata:.3g}<extra></extra>",
                **shown,
                **place,
            )
            for index, (name, vector) in enumerate((("mean of the pulls", mean), ("gradient", self.gradient)), start=1):
                _arrow(drawing, self.point[:2], self.point[:2] + far * vector[:2], color(index), 3, place)
                line = {"color": color(index), "width": 3}
                shown = {"legendgroup": name, "showlegend": col == 1, "hoverinfo": "skip"}
                drawing.add_scatter(x=[None], y=[None], mode="lines", line=line, name=name, **shown, **place)
            drawing.update_xaxes(title={"text": "first coordinate"}, row=1, col=col)
        drawing.update_yaxes(title={"text": "second coordinate"}, row=1, col=1)
        legend = {"orientation": "h", "y": -0.22, "yanchor": "top"}
        return drawing.update_layout(height=440, margin={"t": 30}, legend=legend)


def score_function_terms(ascent: Ascent | None = None, *, samples: int = 20, seed: int = 0) -> ScoreFunctionTerms:
    """Return how every sample of a score function pulls the point.

    The estimate is the mean of (f(x + sigma e) - b) e / sigma: every sample pulls x along the line to itself, towards
    it if its value is above the baseline b and away from it if it is below, the more the further it is away and the
    more its value differs from b. Without a baseline, all pull away where f is negative, and all towards them where it
    is positive: only differences of large numbers tell the direction.

    Args:
        ascent: The objective, the point and the scale of the smoothing; None for the reference problem.
        samples: The number of samples, >= 2.
        seed: Of the samples.

    Raises:
        InvalidArgument: If an argument is outside its range, or the start is no point.
        EvaluationFailed: If the objective raises an error.

    >>> found = score_function_terms(samples=1000)
    >>> errors = [abs(each.mean(0) - found.gradient).max() for each in (found.terms, found.centred)]
    >>> bool(errors[1] < errors[0])
    True
    """
    ascent = Ascent() if ascent is None else _check.instance("ascent", ascent, Ascent, "an Ascent or None")
    count = _check.at_least("samples", samples, 2, most=10**6)
    _check.at_least("seed", seed, 0, most=2**63 - 1)
    point = ascent._point()
    generator = torch.Generator(point.device).manual_seed(seed)
    noise = torch.randn((count, *point.shape), generator=generator, dtype=point.dtype, device=point.device)
    where = point + ascent.sigma * noise
    values = values_at(ascent.objective, where).cpu().double().numpy()
    noise = noise.flatten(1).cpu().double().numpy()
    others = (values - values.mean()) * count / (count - 1)
    drawn = where.flatten(1).cpu().double().numpy()
    return ScoreFunctionTerms(
        point.flatten().cpu().double().numpy(),
        drawn,
        values,
        values[:, None] * noise / ascent.sigma,
        others[:, None] * noise / ascent.sigma,
        ascent._gradient().flatten().cpu().double().numpy(),
        Plane.around(ascent.objective, drawn, point) if point.ndim == 1 else None,
    )


def _arrow(drawing: go.Figure, start: Array, end: Array, paint: str, width: int, place: dict[str, int]) -> None:
    suffix = "" if place["col"] == 1 else str(place["col"])
    drawing.add_annotation(
        x=end[0],
        y=end[1],
        ax=start[0],
        ay=start[1],
        xref=f"x{suffix}",
        yref=f"y{suffix}",
        axref=f"x{suffix}",
        ayref=f"y{suffix}",
        text="",
        showarrow=True,
        arrowhead=2,
        arrowwidth=width,
        arrowsize=0.8 if width > 1 else 1,
        arrowcolor=paint,
    )
