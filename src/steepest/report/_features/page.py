"""The page of a network's tangent features over its training: one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from steepest._figure import color, dash
from steepest.features import Curves, Features
from steepest.features._result import rank_in_words
from steepest.features._snapshots import DIRECTIONS
from steepest.linearize import RIDGE, ChangeDisplay, SpectrumDisplay
from steepest.report._features.moving import moving_figure
from steepest.report._page.page import write_page

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["write_features_page"]

_GREY = "#808080"
_PANEL = 210


def write_features_page(result: Features, path: Path, command: str) -> Path:
    """Write the page; return its path.

    Raises:
        OutputError: If the file cannot be written.
    """
    return write_page(path, "_features/features.html.jinja", _content(result, command))


def _content(result: Features, command: str) -> dict[str, Any]:
    found = result.snapshots.found
    last = found[-1].step
    curves = [each.curves for each in found if each.curves is not None]
    change = _change(result)
    return {
        "report": result,
        "command": command,
        "records": [result.record(each) for each in found],
        "columns": result.snapshots.linearization.shape[1],
        "rows": result.snapshots.linearization.shape[0],
        "examples": result.snapshots.linearization.examples,
        "outputs": result.snapshots.linearization.outputs,
        "precision": result.snapshots.precision,
        "labels": [
            f"step {each.step:,} of {last:,} · loss {result.losses[each.step]:.3g} · rank {rank_in_words(each)}"
            for each in found
        ],
        "ridge": RIDGE,
        "figures": _figures(result, change),
        "function": _function(curves),
        "principal": _principal(curves),
        "layers": _layers(result, curves),
        "learning": _learning(result),
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
        "spectra": [f"rank {rank_in_words(each)}, threshold {each.svd.threshold:.2g}" for each in found],
        "plan": str(result.first.svd.plan),
    }


def _figures(result: Features, change: ChangeDisplay) -> dict[str, Markup]:
    found = result.snapshots.found
    start = found[0].svd
    spectra = [SpectrumDisplay.of({"this step": each.svd, "start": start}).plot() for each in found]
    return {
        "spectrum": moving_figure([_greyed(drawing) for drawing in spectra], same_scale=True),
        "change": moving_figure([change.plot(each.step) for each in found], same_scale=False),
    }


def _change(result: Features) -> ChangeDisplay:
    found = result.snapshots.found
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


def _function(curves: Sequence[Curves]) -> Markup | None:
    functions = [each.function for each in curves if each.function is not None]
    return moving_figure([each.plot() for each in functions], same_scale=True) if functions else None


def _learning(result: Features) -> dict[str, Any] | None:
    displays = [each.learning for each in result.snapshots.found if each.learning is not None]
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


def _principal(curves: Sequence[Curves]) -> list[dict[str, Any]]:
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


def _layers(result: Features, curves: Sequence[Curves]) -> list[dict[str, Any]]:
    if not curves:
        return []
    layers: dict[str, dict[str, Any]] = {}
    displays = [each.features for each in curves]
    for name in list(displays[0].curves)[:24]:
        layer, kind = result.snapshots.layers[name]
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
    """Draw the spectrum of the start in grey, behind the other and without its rank, which the text gives."""
    drawing.data = drawing.data[::-1]
    start: Any = drawing.data[0]
    start.marker.color = _GREY
    layout: Any = drawing.layout
    layout.shapes, layout.annotations = layout.shapes[:1], layout.annotations[:1]
    return drawing


def _as_panel(drawing: go.Figure) -> go.Figure:
    return drawing.update_layout(height=_PANEL).update_xaxes(title=None).update_yaxes(title=None, nticks=5)


def _function_key() -> list[tuple[str, str, str]]:
    """Return the entries of the legend: name, colour, and shape."""
    names = ["linearised", *(f"linearised, first {k} directions" for k in reversed(DIRECTIONS))]
    styles = ["line", "line dashed", "line dotted"]
    curves = [(name, color(1), style) for name, style in zip(names, styles, strict=True)]
    return [("network", color(0), "line"), *curves, ("examples", _GREY, "dot")]
