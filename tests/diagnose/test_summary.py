"""One picture of a run: four panels, with the diagnosis above."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.diagnose import (
    ActivationDisplay,
    Diagnosis,
    GradientNormDisplay,
    LayerGradientDisplay,
    Monitor,
    SummaryDisplay,
)

PANELS = ["loss", "mean gradient norm, and update over weight", "gradient norm", "idle units"]


def network(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 12), activation(), nn.Linear(12, 2))


def run(
    model: nn.Module,
    steps: int = 6,
    with_loss: bool = True,
    scale: Callable[[int], float] = lambda _: 1.0,
    lr: float = 0.05,
) -> Monitor:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Monitor(model, optimizer) as monitor:
        for step in range(steps):
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            loss = scale(step) * F.cross_entropy(model(x), (x.sum(dim=1) > 0).long())
            loss.backward()
            optimizer.step()
            if with_loss:
                monitor.record(step, loss)
    return monitor


def titles(drawing: go.Figure) -> list[str]:
    return [annotation.text for annotation in drawing.layout.annotations]


def checked(monitor: Monitor) -> go.Figure:
    """The drawing, when it has four panels, the diagnosis above, and can be written."""
    display = monitor.summary()
    drawing = display.plot()
    assert isinstance(drawing, go.Figure)
    assert titles(drawing)[:4] == PANELS
    assert monitor.diagnosis().cause.replace("_", " ") in drawing.layout.title.text
    assert monitor.diagnosis().remedy in drawing.layout.title.text
    assert {trace.yaxis for trace in drawing.data} == {"y", "y2", "y3", "y4"}
    assert json.loads(drawing.to_json())["data"]
    return drawing


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(plain(each) for each in value.values())
    if isinstance(value, list):
        return all(type(each) in (int, float) for each in value)
    return isinstance(value, np.ndarray)


def test_a_healthy_run_is_drawn_in_four_panels_with_the_diagnosis_above():
    monitor = run(network())
    drawing = checked(monitor)
    assert monitor.diagnosis().cause == "healthy"
    curves = {trace.name: list(trace.y) for trace in drawing.data if isinstance(trace, go.Scatter)}
    assert curves["loss"] == monitor.history["loss"]
    assert curves["mean gradient norm"] == monitor.history["mean_gradient_norm"]
    ratios = zip(*(monitor.history["update_ratio"][name] for name in ("0.weight", "2.weight")), strict=True)
    assert curves["update / weight"] == pytest.approx([float(np.median(pair)) for pair in ratios])
    layers, idle = (trace for trace in drawing.data if isinstance(trace, go.Heatmap))
    assert list(layers.y) == list(monitor.history["gradient_norm"])
    assert list(idle.y) == ["1"]


def test_it_keeps_plain_arrays_and_draws_later():
    display = run(network()).summary()
    assert isinstance(display, SummaryDisplay)
    assert isinstance(display.diagnosis, Diagnosis)
    assert isinstance(display.gradients, GradientNormDisplay)
    assert isinstance(display.layers, LayerGradientDisplay)
    assert isinstance(display.activations, ActivationDisplay)
    assert all(map(plain, (display.steps, display.loss, display.update)))
    assert all(map(plain, (display.gradients.norms, display.layers.norms, display.activations.idle)))


def test_it_can_be_had_inside_the_block_too():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4, generator=torch.Generator().manual_seed(step))).square().mean()
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
            assert len(monitor.summary().steps) == step + 1
    checked(monitor)


def test_a_run_without_losses_is_drawn():
    monitor = run(network(), with_loss=False)
    assert all(map(math.isnan, monitor.summary().loss))
    checked(monitor)


def test_a_run_without_activations_is_drawn():
    model = network()
    with Monitor(model) as monitor:
        for step in range(3):
            monitor.record(step, 1.0, gradient=[torch.ones_like(p) for p in model.parameters()])
    assert monitor.summary().activations.idle == {}
    drawing = monitor.summary().plot()
    assert titles(drawing)[:4] == PANELS
    assert json.loads(drawing.to_json())["data"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_run_is_drawn():
    torch._dynamo.reset()
    monitor = run(torch.compile(network(), backend="eager"))
    torch._dynamo.reset()
    assert monitor.summary().activations.idle == {}
    drawing = monitor.summary().plot()
    assert titles(drawing)[:4] == PANELS
    assert json.loads(drawing.to_json())["data"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_that_is_not_finite_is_drawn(value):
    monitor = run(network(), scale=lambda step: value if step > 2 else 1.0)
    assert monitor.diagnosis().cause == "non_finite"
    checked(monitor)


def test_a_run_without_gradients_is_drawn():
    with Monitor(network()) as monitor:
        for step in range(3):
            monitor.record(step, 1.0)
    monitor.summary().plot().to_json()


def test_a_run_with_negative_losses_shows_them():
    monitor = run(network(), scale=lambda _: -1.0)
    (loss,) = (trace for trace in checked(monitor).data if trace.name == "loss")
    assert list(loss.y) == monitor.history["loss"]


def test_before_the_first_step_it_is_drawn_as_undetermined():
    monitor = Monitor(network())
    assert monitor.summary().steps == []
    drawing = monitor.summary().plot()
    assert "undetermined" in drawing.layout.title.text


def test_saturated_units_are_idle_units():
    model = network(nn.Tanh)
    with torch.no_grad():
        model[0].weight.mul_(1000)
    idle = run(model).summary().activations.idle["1"]
    assert min(idle) > 0.9


def test_a_model_with_many_layers_has_a_taller_picture():
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(30)), nn.Linear(4, 2))
    heights = [run(model, 2).summary().plot().layout.height for model in (network(), deep)]
    assert heights[0] < heights[1]
