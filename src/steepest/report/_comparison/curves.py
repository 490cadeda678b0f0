"""The figures of a comparison's runs, over steps and over seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from steepest.compare import Comparison
from steepest.report._page.packed import packed

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["curves_of"]


def curves_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Return by curve its name, its label for people who do not see it, and its figure with two views."""
    has_training = any(
        history.train_loss for cell in comparison.design.cells for history in comparison.final_histories(cell)
    )
    losses = ["loss", "training loss"] if has_training else ["loss"]
    drawn = {
        name: (comparison.curves(name).plot(), comparison.curves(name, "seconds").plot())
        for name in [*losses, *comparison.metric_names]
    }
    return [
        {
            "id": name if name == "loss" else f"curve-{i}",
            "title": {"loss": "Validation loss", "training loss": "Training loss, of single batches"}.get(
                name, f"{name.replace('_', ' ').capitalize()} in validation"
            ),
            "figure": _two_views(*views),
        }
        for i, (name, views) in enumerate(drawn.items())
    ]


def _two_views(steps: go.Figure, seconds: go.Figure) -> Markup:
    """Return a figure over steps that holds the one over seconds, to which the page's switch turns it."""
    figure = json.loads(str(steps.to_json()))
    return packed(json.dumps({**figure, "views": {"seconds": json.loads(str(seconds.to_json()))}}))
