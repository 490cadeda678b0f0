"""Displays of paths, limits, losses and sensitivities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from steepest._check import at_least, instance
from steepest._figure import DASHES, GREY, color, dash, figure, line, log_axis, points
from steepest._series import series
from steepest.errors import InvalidArgument
from steepest.implicit_bias._predict import Prediction
from steepest.implicit_bias._runs.simulate import Simulation

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["LossDisplay", "SensitivityDisplay", "TrajectoryDisplay"]

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class TrajectoryDisplay:
    """Paths and limits in two coordinates of theta, with the solutions there.

    Attributes:
        paths: By rule: the two coordinates at the recorded steps.
        points: By rule: the two coordinates of the predicted limit, where there is one.
        solutions: By rule, or "solutions" for all of them: two points of the line of solutions in these coordinates. It
            is the projection of all solutions where that is a line, else those that share the end point's other
            coordinates.
        coordinates: The indices of the two coordinates.
    """

    paths: Mapping[str, Points]
    points: Mapping[str, tuple[float, float]]
    solutions: Mapping[str, Points]
    coordinates: tuple[int, int] = (0, 1)

    @classmethod
    def of(
        cls, runs: Mapping[str, tuple[Prediction, Simulation]], coordinates: tuple[int, int] = (0, 1)
    ) -> TrajectoryDisplay:
        """Return the display of the first run of each simulation and of its prediction.

        Args:
            runs: By rule, all on the same A and b.
            coordinates: Two different coordinates.

        Raises:
            InvalidArgument: If theta lacks these coordinates, or runs is empty.
        """
        instance("runs", runs, Mapping, "a mapping {name: (prediction, simulation)}")
        for run in runs.values():
            pair = instance("runs", run, tuple, "a mapping {name: (prediction, simulation)}")
            if not (len(pair) == 2 and isinstance(pair[0], Prediction) and isinstance(pair[1], Simulation)):
                raise InvalidArgument(
                    "runs must be pairs of a prediction and a simulation", got=run, remedy="Pass both."
                )
        if not runs:
            raise InvalidArgument(
                "runs must hold a run to show", got=runs, remedy="Pass {name: (prediction, simulation)}."
            )
        problem = next(iter(runs.values()))[0].problem
        two = instance("coordinates", coordinates, (tuple, list), "two of theta's coordinates")
        chosen = [at_least("coordinates", k, 0, most=problem.columns - 1, remedy="Choose two features.") for k in two]
        if len(chosen) != 2 or chosen[0] == chosen[1]:
            raise InvalidArgument(
                f"coordinates must be two different ones of 0 to {problem.columns - 1}",
                got=coordinates,
                remedy="Choose two features.",
            )
        i, j = chosen
        paths: dict[str, Points] = {}
        points: dict[str, tuple[float, float]] = {}
        for name, (prediction, simulation) in runs.items():
            ends = simulation.trajectory[:, 0, chosen].cpu().numpy()
            paths[name] = [(float(x), float(y)) for x, y in ends]
            if prediction.point is not None:
                points[name] = (float(prediction.point[i]), float(prediction.point[j]))
        A = problem.A.numpy()
        box = np.array([point for path in [*paths.values(), list(points.values())] for point in path])
        box = box[np.isfinite(box).all(axis=1)]
        solutions = _solutions(A, chosen, points, box) if problem.loss == "squared" else {}
        return cls(paths, points, solutions, coordinates)

    def __post_init__(self) -> None:
        series("paths", self.paths, None, 2)
        series("points", self.points, 2)
        series("solutions", self.solutions, None, 2)
        two = instance("coordinates", self.coordinates, (tuple, list), "a pair of coordinates")
        if [at_least("coordinates", k, 0) for k in two] != list(dict.fromkeys(two)) or len(two) != 2:
            raise InvalidArgument("coordinates must be two different ones", got=two, remedy="Choose two features.")

    def plot(self) -> go.Figure:
        """Draw paths as lines, predictions as crosses, solutions dotted."""
        i, j = self.coordinates
        drawing = figure(f"theta[{i}]", f"theta[{j}]")
        for name, ends in self.solutions.items():
            index = list(self.paths).index(name) if name in self.paths else None
            line(
                drawing,
                [x for x, _ in ends],
                [y for _, y in ends],
                "solutions" if index is None else f"solutions through {name}",
                {"color": GREY if index is None else color(index), "width": 1, "dash": "dot"},
                "",
                legendgroup=name,
                showlegend=index is None,
            )
        for k, (name, path) in enumerate(self.paths.items()):
            line(
                drawing,
                [x for x, _ in path],
                [y for _, y in path],
                name,
                {"color": color(k), "dash": DASHES[k % len(DASHES)], "width": 2},
                f"{name}: %{{x:.4g}}, %{{y:.4g}}",
            )
            if name in self.points:
                x, y = self.points[name]
                points(
                    drawing,
                    [x],
                    [y],
                    f"{name}, predicted",
                    {"color": color(k), "symbol": "x", "size": 10},
                    f"{name}, predicted: %{{x:.6g}}, %{{y:.6g}}",
                    legendgroup=name,
                )
        return drawing


@dataclass(frozen=True)
class LossDisplay:
    """The loss against the step, with the oscillation in which a run is predicted to end.

    Attributes:
        steps: By run: the recorded steps.
        losses: By run: the loss at these steps.
        cycles: By run: the two losses of the predicted cycle, half the squares of `two_cycle`'s residuals.
    """

    steps: Mapping[str, Sequence[int]]
    losses: Mapping[str, Sequence[float]]
    cycles: Mapping[str, tuple[float, float]]

    @classmethod
    def of(
        cls, runs: Mapping[str, Simulation], residuals: Mapping[str, tuple[float, float]] | None = None
    ) -> LossDisplay:
        """Return the display of the first run of each simulation.

        Args:
            runs: By name.
            residuals: By name: what `two_cycle` predicts.
        """
        instance("runs", runs, Mapping, "a mapping {name: simulation}")
        for run in runs.values():
            instance("runs", run, Simulation, "a mapping {name: simulation}")
        series("residuals", {} if residuals is None else residuals, 2)
        cycles = {name: (a * a / 2, b * b / 2) for name, (a, b) in (residuals or {}).items()}
        return cls(
            {name: run.steps.tolist() for name, run in runs.items()},
            {name: run.losses[:, 0].tolist() for name, run in runs.items()},
            cycles,
        )

    def __post_init__(self) -> None:
        series("steps", self.steps, None)
        series("losses", self.losses, None)
        series("cycles", self.cycles, 2)
        if missing := set(self.losses) - set(self.steps):
            raise InvalidArgument("steps must have the names of losses", got=sorted(missing), remedy="Add them.")

    def plot(self) -> go.Figure:
        """Draw the losses on a logarithmic scale, without zeros, and the cycles dotted."""
        drawing = figure("step", "loss")
        every = [v for values in (*self.losses.values(), *self.cycles.values()) for v in values if math.isfinite(v)]
        floor = 1e-16 * max(every, default=0.0)  # below it is rounding
        shown = [v for v in every if v > floor]
        drawing.update_yaxes(log_axis(shown), exponentformat="power")
        for k, (name, losses) in enumerate(self.losses.items()):
            line(
                drawing,
                list(self.steps[name]),
                [v if v > floor else None for v in losses],
                name,
                {"color": color(k), "dash": dash(k), "width": 2},
                f"{name}, step %{{x}}: %{{y:.4g}}",
            )
            for level in self.cycles.get(name, ()):
                if level > floor:
                    drawing.add_hline(y=level, line={"color": color(k), "width": 1, "dash": "dot"})
        return drawing


@dataclass(frozen=True)
class SensitivityDisplay:
    """How much each coordinate of a point changes predictions, as bars.

    Attributes:
        values: By series, a rule or a kind of data: one value for each coordinate.
        names: The names of the coordinates; by default their indices.
    """

    values: Mapping[str, Sequence[float]]
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        series("values", self.values, None)
        names: Any = () if self.names is None else self.names
        if not (isinstance(names, (list, tuple)) and all(type(n) is str for n in cast("Sequence[object]", names))):
            raise InvalidArgument("names must be a list of strings", got=names, remedy="Pass one for each coordinate.")

    def plot(self) -> go.Figure:
        """Draw a group of bars for each coordinate."""
        drawing = figure("coordinate", "|theta_j| x scale", barmode="group")
        for k, (name, values) in enumerate(self.values.items()):
            drawing.add_bar(
                x=list(self.names or [str(j) for j in range(len(values))]),
                y=list(values),
                name=name,
                marker={"color": color(k)},
                hovertemplate=f"{name}, %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        return drawing.update_xaxes(type="category")


def _solutions(
    A: NDArray[np.float64],
    chosen: list[int],
    points: Mapping[str, tuple[float, float]],
    box: NDArray[np.float64],
) -> dict[str, Points]:
    """Return the lines of solutions in two coordinates, as long as what is drawn."""
    if not points:
        return {}
    _, values, right = np.linalg.svd(A)
    rank = int((values > max(A.shape) * np.finfo(float).eps * values[0]).sum())
    _, sizes, directions = np.linalg.svd(right[rank:][:, chosen])
    spanned = int((sizes > 1e-10).sum())
    if spanned == 1:
        through = {"solutions": (next(iter(points.values())), directions[0])}
    else:
        # All of the plane is met by some solution: show those that differ from an end point in these coordinates only.
        _, sizes, directions = np.linalg.svd(A[:, chosen])
        if spanned == 0 or int((sizes > 1e-10 * sizes[0]).sum()) != 1:
            return {}
        through = {name: (point, directions[-1]) for name, point in points.items()}
    reach = 1.2 * float(np.ptp(box, axis=0).max()) or 1.0
    center = (box.min(axis=0) + box.max(axis=0)) / 2
    lines: dict[str, Points] = {}
    for name, (point, direction) in through.items():
        # As far to both sides of the point that is nearest to the middle of the picture.
        middle = np.asarray(point) + direction * float((center - np.asarray(point)) @ direction)
        ends = [middle + sign * reach * direction / 2 for sign in (-1, 1)]
        lines[name] = [(float(x), float(y)) for x, y in ends]
    return lines
