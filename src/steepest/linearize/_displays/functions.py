"""Displays of a model with one input, as functions of that input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from steepest._check import at_least, floating, in_range, instance
from steepest._figure import GREY, band, color, figure, line, points, translucent
from steepest._series import Array, as_arrays, named, numbers, series
from steepest.errors import InvalidArgument, UnknownName
from steepest.linearize._displays.panels import panels, ticks
from steepest.linearize._linearization import Linearization

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["FeaturesDisplay", "FunctionDisplay", "PrincipalFeaturesDisplay"]

_CHUNK = 1 << 23
"""The number of features evaluated at a time, so that a wide network does not fill the memory."""


@dataclass(frozen=True, eq=False)
class FeaturesDisplay:
    """The features d y(x) / d theta_j of each parameter of a model of one input, as functions of x.

    Attributes:
        x: Where they were evaluated, [m].
        curves: By parameter: the strongest features by their norm over x, [k, m].
        indices: By parameter: which entries these are.
        bands: By parameter: minimum, 10%, 90% and maximum over all of its features, [4, m].
        counts: By parameter: the number of its features.
        elbows: The kinks -b/w of the first layer, if the model's first parameters are those of a layer of one input.
    """

    x: Array
    curves: Mapping[str, Array]
    indices: Mapping[str, Sequence[int]]
    bands: Mapping[str, Array]
    counts: Mapping[str, int]
    elbows: Sequence[float]

    def __post_init__(self) -> None:
        (count,) = numbers("x", self.x, None)
        kept = series("curves", self.curves, None, count)
        for name, indices in named("indices", self.indices, kept).items():
            numbers("indices", indices, kept[name][0])
        series("bands", self.bands, 4, count, names=kept)
        numbers("counts", list(named("counts", self.counts, kept).values()), None)
        numbers("elbows", self.elbows, None)
        as_arrays(self)

    @classmethod
    def of(cls, linearization: Linearization, x: Tensor, strongest: int = 12, output: int = 0) -> FeaturesDisplay:
        """Return the display of a model of one input.

        Args:
            linearization: Of such a model.
            x: Where to evaluate, m numbers, ascending.
            strongest: How many features of each parameter to keep.
            output: Of which output.

        Raises:
            InvalidArgument: If x does not hold one number an example, or there is no such output.
        """
        at = _column(linearization, x, output)
        strongest = at_least("strongest", strongest, 1)
        parameters = linearization.parameters()
        curves: dict[str, Array] = {}
        indices: dict[str, list[int]] = {}
        bands: dict[str, Array] = {}
        for name, parameter in parameters.items():
            squares = torch.zeros(parameter.numel(), dtype=torch.float64)
            columns: list[Array] = []
            for part in _features(linearization, at, name, parameter.numel(), output):
                squares += part.square().sum(0)
                columns.append(np.quantile(part.numpy(), (0.0, 0.1, 0.9, 1.0), axis=1))
            chosen = squares.topk(min(strongest, len(squares))).indices
            kept = [part[:, chosen] for part in _features(linearization, at, name, parameter.numel(), output)]
            curves[name], indices[name] = torch.cat(kept).T.numpy(), chosen.tolist()
            bands[name] = np.concatenate(columns, axis=1)
        counts = {name: parameter.numel() for name, parameter in parameters.items()}
        return cls(at[:, 0].double().cpu().numpy(), curves, indices, bands, counts, _elbows(parameters))

    def plot(self, parameter: str | None = None) -> go.Figure:
        """Draw the strongest features over the range of all, elbows as ticks; of one parameter, or a panel for each.

        Raises:
            UnknownName: If there is no such parameter.
        """
        if parameter is not None and instance("parameter", parameter, str, "a name") not in self.curves:
            raise UnknownName.among("parameter", parameter, self.curves)
        names = list(self.curves) if parameter is None else [parameter]
        titles = [f"{name}: {self.counts[name]}" for name in names]
        drawing, places = panels(titles, "x", "dy / d parameter")
        for name, (place, axes) in zip(names, places, strict=True):
            lowest, low, high, highest = self.bands[name]
            for below, above, opacity in ((lowest, highest, 0.12), (low, high, 0.2)):
                band(drawing, self.x, below, above, name, translucent(GREY, opacity), **place)
            for index, curve in zip(self.indices[name], self.curves[name], strict=True):
                each, style = f"{name}[{index}]", {"color": translucent(color(0), 0.8), "width": 1.25}
                told = f"{each}, %{{x:.3g}}: %{{y:.4g}}"
                line(drawing, self.x, curve, each, style, told, showlegend=False, **place)
            ticks(drawing, self.elbows, self.x, color(1), axes)
        return drawing


@dataclass(frozen=True, eq=False)
class PrincipalFeaturesDisplay:
    """The first principal features J(x) V of a model of one input, as functions of x.

    Attributes:
        x: Where they were evaluated, [m].
        features: J(x) v_k, [k, m].
        singular_values: s_k.
        points: The examples, [n].
        at_points: The features there, s_k u_k, [k, n].
    """

    x: Array
    features: Array
    singular_values: Array
    points: Array
    at_points: Array

    def __post_init__(self) -> None:
        k, _ = numbers("features", self.features, None, *numbers("x", self.x, None))
        numbers("singular_values", self.singular_values, k)
        numbers("at_points", self.at_points, k, *numbers("points", self.points, None))
        as_arrays(self)

    @classmethod
    def of(cls, linearization: Linearization, x: Tensor, k: int = 6, output: int = 0, like: Self | None = None) -> Self:
        """Return the display of a model of one input.

        A singular vector's sign is arbitrary; here the entry of largest magnitude at the examples is positive.

        Args:
            linearization: Of such a model.
            x: Where to evaluate, m numbers, ascending.
            k: The maximum number of features; never more than the rank.
            output: Of which output.
            like: Another display at the same examples, whose signs are kept where they overlap.

        Raises:
            InvalidArgument: If x does not hold one number an example, or there is no such output.
        """
        at = _column(linearization, x, output)
        k = at_least("k", k, 1)
        instance("like", like, (PrincipalFeaturesDisplay, type(None)), "a PrincipalFeaturesDisplay")
        svd = linearization.svd()
        svd.require(1)
        count = min(k, svd.rank)
        values = svd.singular_values[:count].cpu().numpy()
        features = linearization.principal_features(at, count)[output :: linearization.outputs].T.cpu().numpy()
        at_points = linearization.principal_features(k=count)[output :: linearization.outputs].T.cpu().numpy()
        largest = np.take_along_axis(at_points, np.abs(at_points).argmax(1)[:, None], 1)[:, 0]
        signs = np.where(largest < 0, -1.0, 1.0)
        if like is not None and like.at_points.shape[1] == at_points.shape[1]:
            shared = min(count, len(like.at_points))
            signs[:shared] = np.where((like.at_points[:shared] * at_points[:shared]).sum(1) < 0, -1.0, 1.0)
        (points,) = linearization._jacobian.inputs
        return cls(
            at[:, 0].double().cpu().numpy(),
            signs[:, None] * features,
            values,
            points.double().flatten().cpu().numpy(),
            signs[:, None] * at_points,
        )

    def plot(self, k: int | None = None) -> go.Figure:
        """Draw each over its root mean square at the examples, s_k / sqrt(n), examples as ticks; the k-th or all.

        Raises:
            InvalidArgument: If there is no such feature; the first is 1.
        """
        count = len(self.features)
        shown = range(count) if k is None else [at_least("k", k, 1, most=count, remedy="Count them from 1.") - 1]
        titles = [f"{i + 1}: singular value {self.singular_values[i]:.3g}" for i in shown]
        drawing, places = panels(titles, "x", "principal feature")
        for i, (place, axes) in zip(shown, places, strict=True):
            scale = math.sqrt(len(self.points)) / float(self.singular_values[i])
            line(
                drawing,
                self.x,
                scale * self.features[i],
                f"principal feature {i + 1}",
                {"color": color(0), "width": 2},
                f"{i + 1}, %{{x:.3g}}: %{{y:.4g}}",
                showlegend=False,
                **place,
            )
            ticks(drawing, self.points.tolist(), self.x, GREY, axes)
        return drawing


@dataclass(frozen=True, eq=False)
class FunctionDisplay:
    """A network of one input, its data, and the predictions of its trained linearisation.

    Attributes:
        x: Where the curves were evaluated, [m].
        network: The network's own outputs there, [m].
        linearized: By name: the linearised model's predictions there after its training, [m].
        points: The examples, [n].
        targets: Their targets, [n].
    """

    x: Array
    network: Array
    linearized: Mapping[str, Array]
    points: Array
    targets: Array

    def __post_init__(self) -> None:
        (count,) = numbers("x", self.x, None)
        numbers("network", self.network, count)
        series("linearized", self.linearized, count)
        numbers("targets", self.targets, *numbers("points", self.points, None))
        as_arrays(self)

    @classmethod
    def of(
        cls,
        linearization: Linearization,
        x: Tensor,
        y: Tensor,
        t: float,
        directions: Sequence[int] = (),
        output: int = 0,
    ) -> FunctionDisplay:
        """Return the display of a model of one input.

        Args:
            linearization: Of such a model.
            x: Where to predict, m numbers, ascending.
            y: The targets at the examples, n C numbers.
            t: How long the linearised model is trained, as the time of gradient flow on the mean squared error.
            directions: Also the predictions if it learns in its first k principal directions only, for these k.
            output: Of which output.

        Raises:
            InvalidArgument: If x does not hold one number an example, or there is no such output.
        """
        at = _column(linearization, x, output)
        t = in_range("t", t, "[0, inf)")
        targets, rank = linearization._targets(y), linearization.svd().rank
        counts = [at_least("directions", k, 1) for k in instance("directions", directions, (list, tuple), "a list")]
        chosen = {f"linearised, first {k} directions": min(k, rank) for k in counts}
        predicted = {
            name: linearization.trajectory([t], y=y, x=at, k=k).predictions[0, :, output].cpu().numpy()
            for name, k in {**chosen, "linearised": None}.items()
        }
        (points,) = linearization._jacobian.inputs
        return cls(
            at[:, 0].double().cpu().numpy(),
            linearization.predictions(at)[:, output].double().cpu().numpy(),
            predicted,
            points.double().flatten().cpu().numpy(),
            targets.unflatten(0, (len(points), -1))[:, output].cpu().numpy(),
        )

    def plot(self) -> go.Figure:
        """Draw the examples as points and the curves; the scale is that of examples and network."""
        drawing = figure("x", "y")
        shown = np.concatenate([self.targets, self.network])
        low, high = float(shown.min()), float(shown.max())
        margin = 0.2 * (high - low) or 1.0
        drawing.update_yaxes(range=[low - margin, high + margin])
        style = {"color": GREY, "size": 4, "opacity": 0.6}
        points(drawing, self.points, self.targets, "examples", style, "%{x:.3g}: %{y:.4g}", legendgroup=None)
        dashes = ("solid", "dash", "dot")
        linearized = [
            (name, curve, {"color": color(1), "width": 1.5, "dash": dashes[min(i, 2)]})
            for i, (name, curve) in enumerate(reversed(list(self.linearized.items())))
        ]
        for name, curve, style in (*linearized, ("network", self.network, {"color": color(0), "width": 2.5})):
            line(drawing, self.x, curve, name, style, f"{name}, %{{x:.3g}}: %{{y:.4g}}", legendgroup=None)
        return drawing


def _column(linearization: Linearization, x: Tensor, output: int) -> Tensor:
    """Return x as the model's input [m, 1]; refuse models of other inputs."""
    inputs = instance("linearization", linearization, Linearization, "a Linearization")._jacobian.inputs
    if len(inputs) != 1 or inputs[0][0].numel() != 1 or not inputs[0].is_floating_point():
        raise InvalidArgument(
            "the model must have one real input, to be shown as a function of it",
            got=[tuple(t.shape) for t in inputs],
            remedy="Look at SpectrumDisplay and ChangeDisplay, which need no such x.",
        )
    at_least("output", output, 0, most=linearization.outputs - 1, remedy="Count the outputs from 0.")
    if floating("x", x).ndim == 0 or x.numel() == 0 or x.numel() != len(x):
        raise InvalidArgument(
            "x must be m numbers, at least one", got=tuple(x.shape), remedy="Pass torch.linspace(0, 1, 200)."
        )
    return x.detach().to(inputs[0]).reshape(-1, *inputs[0].shape[1:])


def _features(linearization: Linearization, x: Tensor, name: str, columns: int, output: int) -> Iterator[Tensor]:
    """Yield the columns of a parameter for some of x at a time, float64."""
    for part in x.split(max(1, _CHUNK // (columns * linearization.outputs))):
        yield linearization.features(part, name)[output :: linearization.outputs].double().cpu()


def _elbows(parameters: Mapping[str, Tensor]) -> list[float]:
    """Return -b/w of the first layer if it has one input; where w is 0 there is no kink."""
    found = list(itertools.islice(parameters.items(), 2))
    if len(found) < 2:
        return []
    (weight_name, weight), (bias_name, bias) = found
    if weight_name.rpartition(".")[0] != bias_name.rpartition(".")[0] or weight.shape != (*bias.shape, 1):
        return []
    slope, offset = weight[:, 0].double(), bias.double()
    return (-offset / slope)[slope != 0].tolist()
