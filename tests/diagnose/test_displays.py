from __future__ import annotations

import json
import math

import plotly.graph_objects as go
import pytest

from steepest.diagnose import ActivationDisplay, GradientNormDisplay, LayerGradientDisplay

STEPS = {"adam": [0, 2, 4], "zero": [0, 1]}
NORMS = {"adam": [1.0, 0.5, 0.25], "zero": [0.0, 2.0]}


def test_the_curves_hold_the_arrays_given_and_leave_zeros_out():
    drawing = GradientNormDisplay(STEPS, NORMS).plot()
    assert isinstance(drawing, go.Figure)
    adam, zero = drawing.data
    assert (adam.name, zero.name) == ("adam", "zero")
    assert list(adam.x) == STEPS["adam"]
    assert list(adam.y) == NORMS["adam"]
    assert list(zero.x) == STEPS["zero"]
    assert list(zero.y) == [None, 2.0]


def test_the_curves_are_drawn_on_a_titled_logarithmic_scale():
    layout = GradientNormDisplay(STEPS, NORMS).plot().layout
    assert layout.yaxis.type == "log"
    assert (layout.xaxis.title.text, layout.yaxis.title.text) == ("step", "mean gradient norm")


def test_curves_can_be_told_apart():
    norms = {f"run {i}": [1.0] for i in range(30)}
    drawing = GradientNormDisplay({name: [0] for name in norms}, norms).plot()
    looks = {(trace.line.color, trace.line.dash) for trace in drawing.data}
    assert len(looks) == 30


@pytest.mark.parametrize("norms", [{}, {"a": []}, {"a": [0.0, 0.0]}, {"a": [math.nan, math.inf]}], ids=str)
def test_curves_without_anything_to_show_are_drawn_empty(norms):
    drawing = GradientNormDisplay({name: range(len(values)) for name, values in norms.items()}, norms).plot()
    assert len(drawing.data) == len(norms)


def test_the_heat_map_holds_the_logarithms_and_the_arrays_given():
    norms = {"0.weight": [1.0, 100.0, 0.01], "0.bias": [0.0, math.nan, 10.0]}
    drawing = LayerGradientDisplay([0, 5, 10], norms).plot()
    assert isinstance(drawing, go.Figure)
    (heat,) = drawing.data
    assert list(heat.x) == [0, 5, 10]
    assert list(heat.y) == ["0.weight", "0.bias"]
    first, second = (list(row) for row in heat.z)
    assert first == pytest.approx([0, 2, -2])
    assert second == [None, None, pytest.approx(1)]
    assert list(heat.customdata[0]) == norms["0.weight"]


def test_the_heat_map_has_the_first_parameter_on_top():
    layout = LayerGradientDisplay([0], {"first": [1.0], "second": [1.0]}).plot().layout
    assert layout.yaxis.autorange == "reversed"
    assert layout.xaxis.title.text == "step"


def test_a_heat_map_of_many_parameters_is_taller():
    heights = [
        LayerGradientDisplay([0], {f"p{i}": [1.0] for i in range(count)}).plot().layout.height for count in (2, 40)
    ]
    assert heights[0] < heights[1]


def test_a_heat_map_without_steps_is_drawn_empty():
    assert len(LayerGradientDisplay([], {"a": [], "b": []}).plot().data) == 1


def test_displays_are_values_that_keep_what_they_were_given():
    assert GradientNormDisplay(STEPS, NORMS).steps is STEPS
    assert GradientNormDisplay(STEPS, NORMS) == GradientNormDisplay(STEPS, NORMS)
    assert LayerGradientDisplay([0], {"a": [1.0]}).norms == {"a": [1.0]}


def test_activations_are_a_heat_map_of_shares_with_the_first_layer_on_top():
    idle = {"relu": [0.0, 0.5, 1.0], "tanh": [math.nan, 0.25, 0.125]}
    drawing = ActivationDisplay([0, 1, 2], idle).plot()
    assert isinstance(drawing, go.Figure)
    (heat,) = drawing.data
    assert list(heat.x) == [0, 1, 2]
    assert list(heat.y) == ["relu", "tanh"]
    assert [list(row) for row in heat.z] == [[0.0, 0.5, 1.0], [None, 0.25, 0.125]]
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert drawing.layout.yaxis.autorange == "reversed"


def test_activations_without_steps_are_drawn_empty():
    assert len(ActivationDisplay([], {"relu": []}).plot().data) == 1


@pytest.mark.parametrize("display", [LayerGradientDisplay([0, 1], {}), ActivationDisplay([0, 1], {})], ids=repr)
def test_a_heat_map_without_rows_is_drawn_empty(display):
    assert len(display.plot().data) <= 1


@pytest.mark.parametrize(
    "display",
    [
        GradientNormDisplay({"a": [0, 1, 2]}, {"a": [math.nan, math.inf, 0.0]}),
        LayerGradientDisplay([0, 1, 2], {"a": [math.nan, math.inf, 0.0]}),
        ActivationDisplay([0, 1, 2], {"a": [math.nan, 1.0, 0.0]}),
    ],
    ids=lambda display: type(display).__name__,
)
def test_what_is_not_finite_can_still_be_drawn_and_written(display):
    written = display.plot().to_json()
    assert json.loads(written)["data"]


def test_displays_of_a_run_hold_plain_lists():
    display = ActivationDisplay([0], {"relu": [0.5]})
    assert display.idle == {"relu": [0.5]}
    assert display == ActivationDisplay([0], {"relu": [0.5]})
