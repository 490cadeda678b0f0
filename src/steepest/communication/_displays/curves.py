"""Time against the number of parameters and of workers, measured and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from steepest import _check
from steepest._figure import color, line, log_axis, points, subplots
from steepest._series import Array, as_arrays, series
from steepest.communication._cluster import Cluster
from steepest.communication._measurement import Measurement
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._predict import predict
from steepest.communication._scheme import Scheme
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["CostCurves"]

NAMES = {"AllToAll": "all-to-all", "Ring": "ring", "AllReduce": "backend's all-reduce"}


@dataclass(frozen=True)
class CostCurves:
    """The seconds of one exchange by scheme: measured points, and predicted lines.

    Attributes:
        measured: By scheme: workers, parameters, seconds, [measurements, 3].
        predicted: By scheme: the same, on a grid.
        workers: The number of workers in the panel of the time against p.
        parameters: The number of parameters in the panel of the time against n.
    """

    measured: Mapping[str, Array]
    predicted: Mapping[str, Array]
    workers: int
    parameters: int

    @classmethod
    def of(cls, measurements: Sequence[Measurement], cluster: Cluster | None = None) -> CostCurves:
        """Return the display of measurements, and of what a cluster predicts for them.

        The first panel has the largest measured n, the second the largest measured p.

        Args:
            measurements: At least one.
            cluster: For the predicted lines: from `fit(measurements)`, or another; None: no lines.

        Raises:
            InvalidArgument: There is no measurement.
        """
        given: Any = _check.instance("measurements", measurements, (list, tuple), "a list of measurements")
        for each in given:
            _check.instance("measurements", each, Measurement, "a list of measurements")
        _check.instance("cluster", cluster, (Cluster, type(None)), "a Cluster or None")
        if not given:
            raise InvalidArgument("measurements must not be empty", got=given, remedy="Try measure_cluster.")
        listed = cast("list[Measurement]", list(given))
        n, p = max(each.workers for each in listed), max(each.parameters for each in listed)
        kinds = {_name(each.scheme): each for each in listed}
        measured = {
            name: np.array([(m.workers, m.parameters, m.seconds) for m in listed if _name(m.scheme) == name])
            for name in kinds
        }
        least = max(min(each.parameters for each in listed), 1)
        sizes = _grid(least, max(p, 1))
        counts: Any = np.arange(2, max(n, 2) + 1) if n <= 64 else _grid(2, n)
        predicted: dict[str, Any] = {}
        for name, each in {} if cluster is None else kinds.items():
            by_size = predict(each.scheme, cast("Cluster", cluster), sizes, n, dtype=each.dtype)
            by_count = predict(_at_first(each.scheme), cast("Cluster", cluster), p, counts, dtype=each.dtype)
            first = np.stack([np.full(len(sizes), n), sizes, by_size], axis=1)
            second = np.stack([counts, np.full(len(counts), p), by_count], axis=1)
            predicted[name] = np.concatenate([first, second])
        return cls(measured, predicted, n, p)

    def __post_init__(self) -> None:
        series("measured", self.measured, None, 3)
        series("predicted", self.predicted, None, 3)
        _check.at_least("workers", self.workers, 1, most=10**9)
        _check.at_least("parameters", self.parameters, 0, most=10**18)
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw both panels on logarithmic scales."""
        titles = [f"n = {self.workers:,} workers", f"p = {self.parameters:,}"]
        drawing = subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.14)
        shown: set[str] = set()
        for panel, (key, fixed, held) in enumerate(((1, 0, self.workers), (0, 1, self.parameters)), start=1):
            x_all: list[float] = []
            y_all: list[float] = []
            for index, name in enumerate(dict.fromkeys([*self.measured, *self.predicted])):
                for told, of, draw in (("predicted", self.predicted, line), ("measured", self.measured, points)):
                    rows = of.get(name, np.zeros((0, 3)))
                    rows = rows[rows[:, fixed] == held]
                    rows = rows[np.argsort(rows[:, key], kind="stable")]
                    if not len(rows):
                        continue
                    x, y = np.maximum(rows[:, key], 1), rows[:, 2] * 1e3
                    x_all += x.tolist()
                    y_all += y.tolist()
                    style = {"color": color(index), **({"width": 2} if draw is line else {"size": 7})}
                    options = {"row": 1, "col": panel, "showlegend": name not in shown}
                    draw(drawing, x, y, name, style, f"{name}, {told}: %{{y:.3g}} ms", **options)
                    shown.add(name)
            if key == 1 or max(x_all, default=1) > 64:
                every = 1 if max(x_all, default=1) < 1e4 else 2 if max(x_all) < 1e6 else 3
                drawing.update_xaxes(type="log", dtick=every, exponentformat="power", row=1, col=panel)
            else:
                drawing.update_xaxes(dtick=1 if max(x_all, default=1) <= 10 else None, row=1, col=panel)
            drawing.update_xaxes(title={"text": "parameters, p" if key == 1 else "workers, n"}, row=1, col=panel)
            drawing.update_yaxes(**log_axis(y_all), row=1, col=panel)
        drawing.update_yaxes(title={"text": "ms"}, row=1, col=1)
        legend = {"orientation": "h", "y": -0.24, "yanchor": "top"}
        return drawing.update_annotations(font={"size": 13}).update_layout(height=440, margin={"t": 34}, legend=legend)


def _grid(low: int, high: int) -> Any:
    return np.unique(np.geomspace(low, high, 60).round().astype(np.int64))


def _at_first(scheme: Scheme) -> Scheme:
    """Return a scheme for any number of workers; which of them serves makes no difference to the time."""
    served_by_worker = isinstance(scheme, ParameterServer) and scheme.server is not None
    return ParameterServer(server=0) if served_by_worker else scheme


def _name(scheme: Scheme) -> str:
    if isinstance(scheme, ParameterServer):
        return "parameter server, separate" if scheme.server is None else "parameter server on a worker"
    return NAMES.get(type(scheme).__name__, type(scheme).__name__)
