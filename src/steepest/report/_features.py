"""The page of a network's features over its training: one file that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from steepest._check import boolean, in_range, instance
from steepest._figure import color, dash
from steepest.compare import write_text
from steepest.errors import InvalidArgument
from steepest.linearize import ChangeDisplay, SpectrumDisplay
from steepest.report._moving import moving_figure
from steepest.report._page import write_page
from steepest.report._snapshots import DIRECTIONS, RIDGE, Curves, Snapshot, Snapshots

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["FeaturesReport"]

_GREY = "#808080"
_PANEL = 210


@dataclass(frozen=True, kw_only=True)
class FeaturesReport:
    """What the linearizations of a network over its training show.

    Attributes:
        snapshots: The linearizations.
        task_name: What was trained.
        losses: By step: the validation loss.
        settings: How it was trained, in the order in which to show it.
        diverged: Whether the run ended before its time.
        command: What a user typed.
    """

    snapshots: Snapshots
    task_name: str
    losses: Mapping[int, float]
    settings: Mapping[str, str]
    diverged: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        instance("snapshots", self.snapshots, Snapshots, "Snapshots")
        boolean("diverged", self.diverged)
        for name in ("task_name", "command"):
            instance(name, getattr(self, name), str, "a string")
        for name in ("losses", "settings"):
            instance(name, getattr(self, name), Mapping, "a mapping")
        for loss in self.losses.values():
            in_range("losses", loss, "(-inf, inf]")
        if missing := [snapshot.step for snapshot in self.snapshots.found if snapshot.step not in self.losses]:
            raise InvalidArgument("losses must hold one of each step that was looked at", got=f"none of {missing[0]}")

    @property
    def _first(self) -> Snapshot:
        return self.snapshots.found[0]

    @property
    def _last(self) -> Snapshot:
        return self.snapshots.found[-1]

    @cached_property
    def headline(self) -> str:
        """What happened, in one sentence."""
        if self._last is self._first:
            return f"The run {'diverged' if self.diverged else 'ended'} before its features could be seen a second time"
        change = self._last.change
        words = {"lazy": "Lazy training", "between": "Between lazy and feature learning"}
        how = words.get(change.regime, "Feature learning")
        return f"{how}: the kernel of the features changes by {_times(change.kernel_change)} its norm"

    @cached_property
    def details(self) -> list[str]:
        """What else is to be said, in sentences."""
        first, last = self._first, self._last
        rows, columns = self.snapshots.linearization.shape
        said = [
            f"The numerical rank of the {rows:,} x {columns:,} feature matrix is {_rank(first)} at initialisation"
            + ("." if last is first else f" and {_rank(last)} after {last.step:,} steps.")
        ]
        if last is not first:
            before, after = first.target_alignment, last.target_alignment
            target = (
                "" if before is None or after is None else f", and with the target {after:.2g}, {before:.2g} before"
            )
            said.append(
                f"At the end the kernel's alignment with its start is {last.change.kernel_alignment:.2f}{target}."
            )
        if self.diverged:
            said.append("The run diverged; what is shown are the steps before.")
        said.extend(
            f"At step {step:,} the network could not be linearised: {why}"
            for step, why in self.snapshots.refused.items()
        )
        return said

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as plain JSON; what is infinite is null."""
        rows, columns = self.snapshots.linearization.shape
        return {
            "headline": self.headline,
            "details": self.details,
            "task": self.task_name,
            "settings": dict(self.settings),
            "diverged": self.diverged,
            "examples": self.snapshots.linearization.examples,
            "outputs": self.snapshots.linearization.outputs,
            "rows": rows,
            "features": columns,
            "precision": self.snapshots.precision,
            "paths": dict(self.snapshots.linearization.paths),
            "ridge": RIDGE,
            "snapshots": [
                {name: None if value == math.inf else value for name, value in self._record(each).items()}
                for each in self.snapshots.found
            ],
            "refused": {str(step): why for step, why in self.snapshots.refused.items()},
            "command": self.command,
        }

    def _record(self, snapshot: Snapshot) -> dict[str, Any]:
        change, svd = snapshot.change, snapshot.svd
        return {
            "step": snapshot.step,
            "loss": self.losses[snapshot.step],
            "rank": svd.rank,
            "rank_complete": svd.complete,
            "threshold": svd.threshold,
            "effective_rank": snapshot.effective_rank,
            "kernel_alignment": change.kernel_alignment,
            "kernel_change": change.kernel_change,
            "subspace_overlap": change.subspace_overlap,
            "subspace_directions": change.k,
            "parameter_change": change.parameter_change,
            "regime": change.regime,
            "target_alignment": snapshot.target_alignment,
            "singular_values": svd.singular_values.tolist(),
        }

    def write(self, folder: Path) -> Path:
        """Write features.html and results.json into a folder; return the page's path.

        Raises:
            OutputError: If they cannot be written.
        """
        instance("folder", folder, Path, "a pathlib.Path")
        write_text(folder / "results.json", json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n")
        return write_page(folder / "features.html", "features.html.jinja", self._content())

    def _content(self) -> dict[str, Any]:
        found = self.snapshots.found
        last = found[-1].step
        curves = [each.curves for each in found if each.curves is not None]
        change = self._change()
        return {
            "report": self,
            "records": [self._record(each) for each in found],
            "columns": self.snapshots.linearization.shape[1],
            "rows": self.snapshots.linearization.shape[0],
            "examples": self.snapshots.linearization.examples,
            "outputs": self.snapshots.linearization.outputs,
            "precision": self.snapshots.precision,
            "labels": [
                f"step {each.step:,} of {last:,} · loss {self.losses[each.step]:.3g} · rank {_rank(each)}"
                for each in found
            ],
            "ridge": RIDGE,
            "figures": self._figures(change),
            "function": self._function(curves),
            "principal": self._principal(curves),
            "layers": self._layers(curves),
            "learning": self._learning(),
            "keys": {
                "function": _function_key(),
                "change": [(name, color(i), "line") for i, name in enumerate([*change.shares, *change.counts])],
                "spectrum": [("this step", color(0), "dot"), ("start", _GREY, "dot")],
                "principal": [("this step", color(0), "line"), ("start", _GREY, "line"), ("examples", _GREY, "tick")],
                "layers": [
                    ("strongest features", color(0), "line"),
                    ("middle 80% and range of all", _GREY, "area"),
                    ("elbows of the first layer", color(1), "tick"),
                ],
            },
            "spectra": [f"rank {_rank(each)}, threshold {each.svd.threshold:.2g}" for each in found],
            "plan": str(self._first.svd.plan),
        }

    def _figures(self, change: ChangeDisplay) -> dict[str, Markup]:
        found = self.snapshots.found
        start = found[0].svd
        spectra = [SpectrumDisplay.of({"this step": each.svd, "start": start}).plot() for each in found]
        return {
            "spectrum": moving_figure([_greyed(drawing) for drawing in spectra], same_scale=True),
            "change": moving_figure([change.plot(each.step) for each in found], same_scale=False),
        }

    def _change(self) -> ChangeDisplay:
        found = self.snapshots.found
        shares: dict[str, Sequence[float]] = {
            "kernel alignment with the start": [each.change.kernel_alignment for each in found],
            "subspace overlap with the start": [each.change.subspace_overlap for each in found],
        }
        aligned = [each.target_alignment for each in found if each.target_alignment is not None]
        if len(aligned) == len(found):
            shares["kernel alignment with the target"] = aligned
        counts = {
            "numerical rank": [each.svd.rank for each in found],
            "effective rank": [each.effective_rank for each in found],
        }
        return ChangeDisplay([each.step for each in found], shares, counts)

    def _function(self, curves: Sequence[Curves]) -> Markup | None:
        functions = [each.function for each in curves if each.function is not None]
        return moving_figure([each.plot() for each in functions], same_scale=True) if functions else None

    def _learning(self) -> dict[str, Any] | None:
        displays = [each.learning for each in self.snapshots.found if each.learning is not None]
        if not displays:
            return None
        count = min(len(each.singular_values) for each in displays)
        drawings = [each.plot() for each in displays]
        for drawing in drawings:
            drawing.update_xaxes(title={"text": "time: steps x learning rate"})
            drawing.data = drawing.data[: 2 * count]
        styles = ["line" if dash(k) == "solid" else "line dashed" for k in range(count)]
        key = [("direction 1" if k == 0 else str(k + 1), color(k), style) for k, style in enumerate(styles)]
        return {"figure": moving_figure(drawings, same_scale=True), "key": key}

    def _principal(self, curves: Sequence[Curves]) -> list[dict[str, Any]]:
        if not curves:
            return []
        displays = [each.principal for each in curves]
        panels: list[dict[str, Any]] = []
        for k in range(1, min(len(each.features) for each in displays) + 1):
            drawings = [each.plot(k) for each in displays]
            start: Any = drawings[0].data[0]
            for drawing in drawings:
                drawing.add_scatter(x=start.x, y=start.y, mode="lines", hoverinfo="skip")
                drawing.data = drawing.data[::-1]
                behind: Any = drawing.data[0]
                behind.line = {"color": _GREY, "width": 1}
            panels.append(
                {
                    "figure": moving_figure([_as_panel(drawing) for drawing in drawings], same_scale=False),
                    "texts": [f"singular value {each.singular_values[k - 1]:.3g}" for each in displays],
                }
            )
        return panels

    def _layers(self, curves: Sequence[Curves]) -> list[dict[str, Any]]:
        if not curves:
            return []
        layers: dict[str, dict[str, Any]] = {}
        displays = [each.features for each in curves]
        for name in list(displays[0].curves)[:24]:
            layer, kind = self.snapshots.layers[name]
            bands = [each.bands[name] for each in displays]
            panel = {
                "name": name.rpartition(".")[2],
                "count": displays[0].counts[name],
                "shown": len(displays[0].indices[name]),
                "figure": moving_figure([_as_panel(each.plot(name)) for each in displays], same_scale=False),
                "texts": [f"up to {max(abs(band.min()), abs(band.max())):.2g}" for band in bands],
            }
            layers.setdefault(layer, {"name": layer, "kind": kind, "panels": []})["panels"].append(panel)
        return list(layers.values())


def _greyed(drawing: go.Figure) -> go.Figure:
    """Draw the spectrum of the start in grey, behind and without its rank, which stands in the text."""
    drawing.data = drawing.data[::-1]
    start: Any = drawing.data[0]
    start.marker.color = _GREY
    layout: Any = drawing.layout
    layout.shapes, layout.annotations = layout.shapes[:1], layout.annotations[:1]
    return drawing


def _as_panel(drawing: go.Figure) -> go.Figure:
    return drawing.update_layout(height=_PANEL).update_xaxes(title=None).update_yaxes(title=None, nticks=5)


def _function_key() -> list[tuple[str, str, str]]:
    """Return what stands for what: name, colour, and shape."""
    names = ["linearised", *(f"linearised, first {k} directions" for k in reversed(DIRECTIONS))]
    styles = ["line", "line dashed", "line dotted"]
    curves = [(name, color(1), style) for name, style in zip(names, styles, strict=True)]
    return [("network", color(0), "line"), *curves, ("examples", _GREY, "dot")]


def _rank(snapshot: Snapshot) -> str:
    return f"{'' if snapshot.svd.complete else 'at least '}{snapshot.svd.rank:,}"


def _times(change: float) -> str:
    if not math.isfinite(change):
        return "infinitely many times"
    return f"{change:.2g} times" if change >= 2 else f"{100 * change:.2g}% of"
