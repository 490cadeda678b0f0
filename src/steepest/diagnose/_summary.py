"""One figure of a run, instead of a plot per tensor."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest._check import instance
from steepest._figure import color, line, log_axis, subplots
from steepest._series import numbers
from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._displays import ActivationDisplay, GradientNormDisplay, LayerGradientDisplay
from steepest.diagnose._records import Records

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["SummaryDisplay"]


@dataclass(frozen=True)
class SummaryDisplay:
    """Loss, gradients, updates and activations of a run in four panels, with the diagnosis above.

    Attributes:
        diagnosis: The diagnosis of the run.
        steps: The recorded steps.
        loss: The loss at these steps, nan where none was given.
        update: The median over the weights of ||update|| / ||weight||.
        gradients: The mean gradient norm.
        layers: The gradient norm of every parameter.
        activations: The share of idle units of every layer.
    """

    diagnosis: Diagnosis
    steps: Sequence[int]
    loss: Sequence[float]
    update: Sequence[float]
    gradients: GradientNormDisplay
    layers: LayerGradientDisplay
    activations: ActivationDisplay

    def __post_init__(self) -> None:
        instance("diagnosis", self.diagnosis, Diagnosis, "a Diagnosis")
        (count,) = numbers("steps", self.steps, None, whole=True)
        for name in ("loss", "update"):
            numbers(name, getattr(self, name), count)
        instance("gradients", self.gradients, GradientNormDisplay, "a GradientNormDisplay")
        instance("layers", self.layers, LayerGradientDisplay, "a LayerGradientDisplay")
        instance("activations", self.activations, ActivationDisplay, "an ActivationDisplay")

    @classmethod
    def of(cls, records: Records, diagnosis: Diagnosis) -> SummaryDisplay:
        """Return the display of what a monitor has recorded."""
        instance("records", records, Records, "what a monitor has recorded", remedy="Call monitor.summary().")
        steps = records.steps.tolist()
        updates = records.rows.update[:, records.weights]
        idle: dict[str, list[float]] = {}
        for name, site in records.sites.items():
            if site.kind in ("activation", "input"):
                shares = np.stack([records.statistic(name, "dead"), records.statistic(name, "saturated")])
                idle[name] = np.fmax(*shares).tolist()
        return cls(
            diagnosis=diagnosis,
            steps=steps,
            loss=records.loss.tolist(),
            update=[float(np.nanmedian(row)) if (~np.isnan(row)).any() else np.nan for row in updates],
            gradients=GradientNormDisplay({"mean": steps}, {"mean": records.mean_gradient_norm.tolist()}),
            layers=LayerGradientDisplay(
                steps, {p.name: records.rows.gradient[:, i].tolist() for i, p in enumerate(records.parameters)}
            ),
            activations=ActivationDisplay(steps, idle),
        )

    def plot(self) -> go.Figure:
        """Draw the four panels."""
        cause = self.diagnosis.cause.replace("_", " ")
        remedy = textwrap.wrap(html.escape(self.diagnosis.remedy, quote=False), 110)
        top = 128 + 18 * len(remedy)
        # The heat maps have names at their left that may be long, so each has the whole width.
        heights = [260, *(60 + 16 * max(4, len(panel)) for panel in (self.layers.norms, self.activations.idle))]
        drawing = subplots(
            3,
            2,
            specs=[[{}, {}], [{"colspan": 2}, None], [{"colspan": 2}, None]],
            subplot_titles=("loss", "mean gradient norm, and update over weight", "gradient norm", "idle units"),
            row_heights=heights,
            horizontal_spacing=0.1,
            vertical_spacing=60 / sum(heights),
        )
        drawing.update_layout(
            height=sum(heights) + top,
            showlegend=True,
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1 + 22 / sum(heights), "yanchor": "bottom"},
            margin={"t": top},
            title={
                "text": f"<b>{cause}</b><br><sup>{'<br>'.join(remedy)}</sup>",
                "x": 0,
                "xref": "paper",
                "y": 1,
                "yanchor": "top",
                "pad": {"t": 36},
            },
        )
        norms = self.gradients.norms["mean"]
        for name, values, place, index in (
            ("loss", self.loss, 1, 0),
            ("mean gradient norm", norms, 2, 1),
            ("update / weight", self.update, 2, 2),
        ):
            line(
                drawing,
                list(self.steps),
                [value if value > 0 or place == 1 else None for value in values],
                name,
                {"color": color(index)},
                f"{name}, step %{{x}}: %{{y:.3g}}",
                mode=None,  # with markers where there are few steps
                legendgroup=None,
                showlegend=place == 2,
                row=1,
                col=place,
            )
        shown = [value for value in self.loss if np.isfinite(value)]
        if shown and min(shown) > 0 and max(shown) > 100 * min(shown):
            drawing.update_yaxes(log_axis(shown), row=1, col=1)
        drawing.update_yaxes(log_axis([*norms, *self.update]), row=1, col=2)
        for row, panel in ((2, self.layers), (3, self.activations)):
            drawing.add_trace(panel.plot().data[0], row=row, col=1)
            low, high = next(drawing.select_yaxes(row=row, col=1)).domain
            heat: Any = drawing.data[-1]
            heat.colorbar.update(len=high - low, y=low, yanchor="bottom")
            drawing.update_yaxes(autorange="reversed", showgrid=False, type="category", row=row, col=1)
        return drawing.update_xaxes(title={"text": "step"}, row=3)
