"""The curves of a run, with the changes of its group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest._figure import GREY, color, figure, line, log_axis
from steepest.train import TrainingRun

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["loss_figure", "metric_figure"]


def loss_figure(run: TrainingRun, changes: Sequence[int]) -> go.Figure:
    """Draw the training loss of batches and the validation loss over the run; changes of the group are dotted."""
    history, group = run.history, run.group
    if group is None:
        training = list(zip(history.gradient_steps, history.train_loss, strict=True))
    else:
        training = [(each.step, each.loss) for each in group.losses]
    shown = [(step, loss) for step, loss in training if math.isfinite(loss)]
    drawing = figure(_axis(run), "loss", showlegend=False, height=320)
    pale = {"color": GREY, "width": 1}
    x = _positions(run, [step for step, _ in shown])
    line(drawing, x, [v for _, v in shown], "training", pale, f"{_named(run)} %{{x}}: %{{y:.3g}}")
    _validation(drawing, run, history.valid_loss)
    finite = [loss for loss in [*history.valid_loss, *(loss for _, loss in shown)] if math.isfinite(loss)]
    drawing.update_yaxes(log_axis(finite))
    _mark(drawing, run, changes)
    return drawing


def metric_figure(run: TrainingRun, name: str, changes: Sequence[int]) -> go.Figure:
    """Draw a metric of validation over the run; changes of the group are dotted."""
    drawing = figure(_axis(run), name, showlegend=False, height=280)
    _validation(drawing, run, run.history.valid_metrics[name])
    _mark(drawing, run, changes)
    return drawing


def _axis(run: TrainingRun) -> str:
    return "evaluations of the loss" if run.counts_evaluations else "step"


def _named(run: TrainingRun) -> str:
    return "evaluation" if run.counts_evaluations else "step"


def _positions(run: TrainingRun, steps: Sequence[int]) -> list[float]:
    """Return where steps stand on the axis."""
    if not run.counts_evaluations:
        return list(steps)
    return np.interp(steps, run.history.steps, run.history.evaluations).tolist() if steps else []


def _validation(drawing: go.Figure, run: TrainingRun, values: Sequence[float]) -> None:
    shown: list[Any] = [value if math.isfinite(value) else None for value in values]
    says = f"{_named(run)} %{{x}}: %{{y:.4g}}"
    line(drawing, _positions(run, run.history.steps), shown, "validation", {"color": color(0), "width": 2}, says)


def _mark(drawing: go.Figure, run: TrainingRun, changes: Sequence[int]) -> None:
    for position in _positions(run, changes):
        drawing.add_vline(x=position, line={"color": color(1), "width": 1, "dash": "dot"})
