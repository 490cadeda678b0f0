"""The curves of a run, with the changes of its group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steepest._figure import GREY, color, figure, line, log_axis
from steepest.train import TrainingRun

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["loss_figure", "metric_figure"]


def loss_figure(run: TrainingRun, changes: Sequence[int]) -> go.Figure:
    """Draw the loss of each step's batch and the validation loss against the step; changes of the group are dotted."""
    history, group = run.history, run.group
    if group is None:
        training = list(zip(history.gradient_steps, history.train_loss, strict=True))
    else:
        training = [(each.step, each.loss) for each in group.losses]
    shown = [(step, loss) for step, loss in training if math.isfinite(loss)]
    drawing = figure("step", "loss", showlegend=False, height=320)
    pale = {"color": GREY, "width": 1}
    line(drawing, [s for s, _ in shown], [v for _, v in shown], "training", pale, "step %{x}: %{y:.3g}")
    _validation(drawing, history.steps, history.valid_loss, color(0))
    finite = [loss for loss in [*history.valid_loss, *(loss for _, loss in shown)] if math.isfinite(loss)]
    drawing.update_yaxes(log_axis(finite))
    _marked(drawing, changes)
    return drawing


def metric_figure(run: TrainingRun, name: str, changes: Sequence[int]) -> go.Figure:
    """Draw a metric of validation against the step; changes of the group are dotted."""
    drawing = figure("step", name, showlegend=False, height=280)
    _validation(drawing, run.history.steps, run.history.valid_metrics[name], color(0))
    _marked(drawing, changes)
    return drawing


def _validation(drawing: go.Figure, steps: Sequence[int], values: Sequence[float], shade: str) -> None:
    shown: list[Any] = [value if math.isfinite(value) else None for value in values]
    line(drawing, steps, shown, "validation", {"color": shade, "width": 2}, "step %{x}: %{y:.4g}")


def _marked(drawing: go.Figure, changes: Sequence[int]) -> None:
    for step in changes:
        drawing.add_vline(x=step, line={"color": color(1), "width": 1, "dash": "dot"})
