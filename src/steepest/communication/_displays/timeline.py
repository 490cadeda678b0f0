"""What happened to a group of workers, on a time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from steepest._figure import COLORS, GREY, figure, line, points
from steepest._series import Array, as_arrays, numbers
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["RecoveryTimeline"]

BLUE, RED, GREEN, _, BROWN = COLORS[:5]
STYLES = {
    "died": (RED, "x", 12),
    "silent": (RED, "x-open", 11),
    "slow": (BROWN, "diamond-open", 10),
    "left out": (BROWN, "diamond", 10),
    "left": (GREY, "square", 9),
    "joined": (GREEN, "triangle-up", 12),
    "rejoined": (GREEN, "triangle-up-open", 12),
    "waiting": (BROWN, "circle-open", 9),
    "copied": (BLUE, "circle", 8),
}
ENDS = ("died", "left out", "left")
"""After these a worker takes no part."""

BEGINS = ("joined", "rejoined")
HIDDEN = ("busy", "step")
"""Events of every step, or of what is no fault."""

SAME = 1.0
"""Seconds within which several workers see one and the same event."""


class _Happened(Protocol):
    """An event: of a group (`GroupEvent`), or of a simulation (`SimulationEvent`)."""

    @property
    def kind(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def step(self) -> int: ...
    @property
    def worker(self) -> int | None: ...
    @property
    def detail(self) -> str: ...


@dataclass(frozen=True)
class RecoveryTimeline:
    """Deaths, silences, slow workers and recoveries, with a row for each worker.

    Attributes:
        times: When each event happened, in seconds since the first, [events].
        kinds: What happened, for each event: "died", "silent", "slow", "left out", "left", "joined", "rejoined",
            "waiting", "copied"; of the group "formed", "recovered".
        workers: To whom, -1 for the group, [events].
        steps: How many steps were complete, [events].
        details: More in words, or "", for each event.
        everybody: The numbers of all workers, also of those to whom nothing happened.
    """

    times: Array
    kinds: Sequence[str]
    workers: Array
    steps: Array
    details: Sequence[str]
    everybody: Sequence[int]

    @classmethod
    def of(cls, events: Sequence[_Happened], workers: Sequence[int] | None = None) -> RecoveryTimeline:
        """Return the display of events: those of a group, several workers' in one list, or those of a simulation.

        What several workers have seen within a second counts once, at its first time.

        Args:
            events: The events.
            workers: The numbers of workers, for rows of those to whom nothing happened.

        Raises:
            InvalidArgument: An argument is of another kind.
        """
        given: Any = events
        if not isinstance(given, (list, tuple)):
            raise InvalidArgument("events must be a list of events", got=given, remedy="Pass those observed.")
        kept: list[_Happened] = []
        last: dict[tuple[str, int | None], float] = {}
        for event in sorted(map(_checked, given), key=lambda each: each.time):
            key = (event.kind, event.worker)
            if event.kind not in HIDDEN and event.time - last.get(key, -np.inf) > SAME:
                kept.append(event)
            last[key] = event.time
        if workers is not None:
            numbers("workers", workers, None, whole=True)
        named = {int(worker) for worker in (() if workers is None else workers)}
        named |= {event.worker for event in kept if event.worker is not None}
        start = kept[0].time if kept else 0.0
        return cls(
            np.array([event.time - start for event in kept], dtype=np.float64),
            tuple(event.kind for event in kept),
            _whole([-1 if event.worker is None else event.worker for event in kept]),
            _whole([event.step for event in kept]),
            tuple(event.detail for event in kept),
            tuple(sorted(named)),
        )

    def __post_init__(self) -> None:
        (count,) = numbers("times", self.times, None)
        if not np.isfinite(np.asarray(self.times, dtype=np.float64)).all():
            raise InvalidArgument("times must be finite", got=list(self.times), remedy="Leave these events out.")
        numbers("workers", self.workers, count, whole=True)
        numbers("steps", self.steps, count, whole=True)
        for name, values in (("kinds", self.kinds), ("details", self.details)):
            given: Any = values
            if not (isinstance(given, (list, tuple)) and all(type(each) is str for each in given)):
                raise InvalidArgument(f"{name} must be a list of strings", got=given, remedy="Pass one for each event.")
            if len(given) != count:
                raise InvalidArgument(f"{name} must be one for each event", got=len(given), remedy=f"Pass {count}.")
        numbers("everybody", self.everybody, None, whole=True)
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw a line for as long as a worker takes part, a mark for each event, and a dotted line at recoveries."""
        drawing = figure("seconds", "")
        rows = {int(worker): row for row, worker in enumerate(self.everybody)}
        end = float(self.times.max(initial=0.0)) or 1.0
        for worker, row in rows.items():
            for begun, ended in self._present(worker, 1.06 * end):
                style = {"color": BLUE, "width": 4}
                line(drawing, [begun, ended], [row, row], "takes part", style, "", showlegend=False, opacity=0.45)
        for kind in dict.fromkeys(self.kinds):
            chosen = [i for i, each in enumerate(self.kinds) if each == kind and int(self.workers[i]) in rows]
            if not chosen:
                continue
            shade, symbol, size = STYLES.get(kind, (GREY, "circle", 8))
            told = [self._told(i) for i in chosen]
            style = {"color": shade, "symbol": symbol, "size": size, "line": {"width": 2, "color": shade}}
            x, y = [float(self.times[i]) for i in chosen], [float(rows[int(self.workers[i])]) for i in chosen]
            points(drawing, x, y, kind, style, "%{text}", text=told)
        for index in np.flatnonzero(self.workers < 0).tolist():
            if self.kinds[index] == "recovered":
                drawing.add_vline(x=float(self.times[index]), line={"color": GREY, "width": 1, "dash": "dot"})
        drawing.update_xaxes(range=[-0.03 * end, 1.06 * end])
        names = [f"worker {worker}" for worker in rows]
        bottom = max(len(rows) - 0.5, 0.5)
        every = 1 + len(rows) // 40  # so that names do not overlap
        drawing.update_yaxes(tickvals=list(rows.values())[::every], ticktext=names[::every])
        drawing.update_yaxes(range=[bottom, -0.5], showgrid=False)
        legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
        return drawing.update_layout(height=min(max(200, 34 * len(rows) + 110), 1000), legend=legend)

    def _told(self, index: int) -> str:
        what = f"worker {int(self.workers[index])}: {self.kinds[index]}, {self.times[index]:.3f} s"
        more = f"<br>{self.details[index]}" if self.details[index] else ""
        return f"{what}, after {int(self.steps[index])} steps{more}"

    def _present(self, worker: int, end: float) -> list[tuple[float, float]]:
        """Return the spans in which a worker took part."""
        of = [(float(self.times[i]), self.kinds[i]) for i in np.flatnonzero(self.workers == worker).tolist()]
        changes = [(time, kind) for time, kind in of if kind in (*ENDS, *BEGINS)]
        begun: float | None = None if changes and changes[0][1] in BEGINS else 0.0
        spans: list[tuple[float, float]] = []
        for time, kind in changes:
            if kind in ENDS and begun is not None:
                spans.append((begun, time))
                begun = None
            elif kind in BEGINS and begun is None:
                begun = time
        return spans if begun is None else [*spans, (begun, end)]


def _checked(event: Any) -> _Happened:
    try:
        fine = (
            isinstance(event.kind, str)
            and type(event.time) in (int, float)
            and bool(np.isfinite(event.time))
            and type(event.step) is int
            and (event.worker is None or type(event.worker) is int)
            and isinstance(event.detail, str)
        )
    except Exception:  # what is passed may raise anything
        fine = False
    if not fine:
        raise InvalidArgument("events must be those of a group or of a simulation", got=event, remedy="Pass those.")
    return event


def _whole(values: list[Any]) -> Any:
    return np.array(values, dtype=np.int64)
