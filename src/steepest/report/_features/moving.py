"""One figure at several steps of training, as a page's slider moves it."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from steepest._figure import log_axis
from steepest.report._page.packed import packed

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["moving_figure"]

Figure = dict[str, Any]


def moving_figure(drawings: Sequence[go.Figure], *, same_scale: bool) -> Markup:
    """Return the last drawing as JSON, with the differences of every drawing from it as its `frames`.

    Args:
        drawings: One per step, with the same traces.
        same_scale: Whether all have one scale; otherwise each has its own, and `scale` holds the common one.
    """
    figures: list[Figure] = [json.loads(str(drawing.to_json())) for drawing in drawings]
    scales = {axis: _common(axis, figures) for axis in ("xaxis", "yaxis")}
    if same_scale:
        for figure, (axis, scale) in itertools.product(figures, scales.items()):
            figure["layout"][axis] |= scale
    for figure in figures:
        for trace, key in itertools.product(figure["data"], ("x", "y")):
            if not isinstance(trace[key], list):
                is_log = figure["layout"][f"{key}axis"].get("type") == "log"
                trace[key] = _rolled(_numbers(trace[key]), is_log)
    last = figures[-1]
    frames = [
        {
            "data": [_difference(a, b) for a, b in zip(last["data"], each["data"], strict=True)],
            "layout": _difference(last["layout"], each["layout"]),
        }
        for each in figures
    ]
    whole = {"data": last["data"], "layout": last["layout"], "frames": frames}
    if not same_scale:
        whole["scale"] = {"yaxis": scales["yaxis"]}
    return packed(json.dumps(whole, separators=(",", ":")))


def _numbers(values: Any) -> NDArray[np.float64]:
    """Return the numbers of a trace, which plotly writes as a list or as base64 of their bytes."""
    if isinstance(values, list):
        return np.array([value for value in values if value is not None], float)
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).astype(float)


_LEVELS = 2**16
"""The resolution of a curve between its lowest and highest value; a figure is a few hundred pixels high."""


def _rolled(values: NDArray[np.float64], is_log: bool) -> Figure:
    """Return a curve as the second differences of rounded numbers: mostly -1, 0 and 1, which compress to bits.

    The numbers are low + step k with whole k, the sum of the sums of the differences; null is a gap. On a logarithmic
    axis they are the logarithms, as the page shows these.
    """
    known = (values > 0 if is_log else np.ones(len(values), bool)) & np.isfinite(values)
    drawn = np.log10(values[known]) if is_log else values[known]
    low, high = (float(drawn.min()), float(drawn.max())) if len(drawn) else (0.0, 0.0)
    step = (high - low) / _LEVELS or 1.0
    levels = np.rint((drawn - low) / step).astype(int)
    differences: list[int | None] = [None] * len(values)
    for i, difference in zip(np.flatnonzero(known), np.diff(levels, 2, prepend=(0, 0)).tolist(), strict=True):
        differences[i] = difference
    return {"low": low, "step": step, "log": is_log, "differences": differences}


def _common(axis: str, figures: Sequence[Figure]) -> Figure:
    """Return the options of an axis whose range contains the data of all figures."""
    own = [figure["layout"][axis].get("range") for figure in figures]
    if all(own):
        return {"range": [min(low for low, _ in own), max(high for _, high in own)]}
    values = np.concatenate([_numbers(trace[axis[0]]) for figure in figures for trace in figure["data"]])
    values = values[np.isfinite(values)]
    options: Figure = {}
    if any(figure["layout"][axis].get("type") == "log" for figure in figures):
        options = log_axis(values.tolist())
        if options["type"] == "log":
            values = np.log10(values[values > 0])
    if not len(values):
        return options
    low, high = float(values.min()), float(values.max())
    margin = (high - low or 1.0) * (0.01 if axis == "xaxis" else 0.05)
    return {**options, "range": [low - margin, high + margin]}


def _difference(base: Figure, other: Figure) -> Figure:
    """Return the entries of `other` that differ from `base`; those that `other` lacks are null."""
    missing = object()
    changed = {key: value for key, value in other.items() if base.get(key, missing) != value}
    return changed | {key: None for key in base if key not in other}
