"""The figures of a comparison's runs, over steps or evaluations of the loss, and over seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from steepest.compare import Cell, Comparison
from steepest.compare._result.curves import X_TITLES, Over
from steepest.report._page.packed import packed

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["counted", "curves_of", "over_what_counts"]


def counted(comparison: Comparison) -> Over:
    """Return what counts in a run: steps, or the evaluations of the loss by a gradient source."""
    return "evaluations" if comparison.gradient else "steps"


def curves_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Return by curve its name, its label for people who do not see it, and its figure with two views."""
    has_training = any(
        history.train_loss for cell in comparison.design.cells for history in comparison.final_histories(cell)
    )
    losses = ["loss", "training loss"] if has_training else ["loss"]
    drawn = {
        name: (comparison.curves(name, counted(comparison)).plot(), comparison.curves(name, "seconds").plot())
        for name in [*losses, *comparison.metric_names]
    }
    estimated = ", as estimated" if comparison.gradient else ""
    titles = {"loss": "Validation loss", "training loss": f"Training loss, of single batches{estimated}"}
    return [
        {
            "id": name if name == "loss" else f"curve-{i}",
            "title": titles.get(name, f"{name.replace('_', ' ').capitalize()} in validation"),
            "figure": _two_views(*views),
        }
        for i, (name, views) in enumerate(drawn.items())
    ]


def over_what_counts(comparison: Comparison, cell: Cell, drawing: go.Figure) -> go.Figure:
    """Return a figure over the steps of a cell's runs; where evaluations of the loss count, over those."""
    if counted(comparison) == "evaluations":
        longest = max(comparison.final_histories(cell), key=lambda history: len(history.steps))
        traces: Any = drawing.data
        for trace in traces:
            trace.x = np.interp(trace.x, longest.steps, longest.evaluations)
            trace.hovertemplate = str(trace.hovertemplate).replace("step %{x}", "evaluation %{x}")
        drawing.update_xaxes(title_text=X_TITLES["evaluations"])
    return drawing


def _two_views(first: go.Figure, seconds: go.Figure) -> Markup:
    """Return a figure that holds the one over seconds, to which the page's switch turns it."""
    figure = json.loads(str(first.to_json()))
    return packed(json.dumps({**figure, "views": {"seconds": json.loads(str(seconds.to_json()))}}))
