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
from steepest.report._page.page import in_script

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
    for trace in (trace for figure in figures for trace in figure["data"]):
        trace.update({key: _single(trace[key]) for key in ("x", "y")})
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
    return in_script(json.dumps(whole, separators=(",", ":")))


def _numbers(values: Any) -> NDArray[np.float64]:
    """Return the numbers of a trace, which plotly writes as a list or as base64 of their bytes."""
    if isinstance(values, list):
        return np.array([value for value in values if value is not None], float)
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).astype(float)


def _single(values: Any) -> Any:
    """Return the numbers of a trace in single precision, which is finer than a screen."""
    if isinstance(values, list):
        return values
    return {"dtype": "f4", "bdata": base64.b64encode(_numbers(values).astype("<f4").tobytes()).decode()}


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
