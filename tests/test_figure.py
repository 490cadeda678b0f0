import numpy as np
import plotly.io as pio
import pytest
from tests.report.looks import contrast

from steepest._figure import (
    COLORS,
    DARK_COLORS,
    band,
    color,
    dash,
    figure,
    heatmap,
    line,
    log_axis,
    points,
    subplots,
    template,
    translucent,
)


def test_the_first_series_differ_in_colour_and_those_after_the_palette_in_their_dashes():
    styles = [(color(i), dash(i)) for i in range(20)]
    assert len(set(styles)) == 20


def test_every_colour_stands_out_from_the_page_it_is_for():
    assert len(DARK_COLORS) == len(COLORS)
    assert min(contrast(colour, ground) for colour in COLORS for ground in ("#ffffff", "#14171b")) >= 3
    assert min(contrast(colour, "#14171b") for colour in DARK_COLORS) >= 4.5


@pytest.mark.parametrize(
    ("low", "high", "has"),
    [(1e-6, 1.0, "0.001"), (0.15, 2.5, "0.5"), (0.2, 0.6, "0.3"), (1e-3, 1e4, "10")],
)
def test_a_logarithmic_axis_has_at_least_three_ticks_with_their_whole_value(low, high, has):
    axis = log_axis([low, high, 0.0, float("inf"), -1.0])
    assert sum(low <= tick <= high for tick in axis["tickvals"]) >= 3
    assert has in axis["ticktext"]
    assert [float(text) for text in axis["ticktext"]] == pytest.approx(axis["tickvals"])


def test_over_a_range_too_short_for_ticks_the_axis_is_linear_and_without_values_it_is_logarithmic():
    assert log_axis([0.0041, 0.0048]) == {"type": "linear"}
    assert log_axis([0.0]) == {"type": "log"}


def test_a_band_is_part_of_its_series_and_runs_there_and_back():
    drawing = figure("x", "y")
    band(drawing, [1, 2], [0.1, 0.2], [0.3, 0.4], "adamw", translucent("#0072B2", 0.18))
    (trace,) = drawing.data
    assert (trace.legendgroup, trace.fillcolor) == ("adamw", "rgba(0, 114, 178, 0.18)")
    assert list(trace.x) == [1, 2, 2, 1]
    assert list(trace.y) == [0.3, 0.4, 0.2, 0.1]


def test_over_many_decades_a_logarithmic_axis_has_a_dozen_ticks_at_most():
    ticks = log_axis([1e-30, 1.0])["tickvals"]
    assert 3 <= sum(1e-30 <= tick <= 1 for tick in ticks) <= 12


def test_lines_and_points_belong_to_their_series_and_say_what_they_are_told_to():
    drawing = figure("x", "y")
    line(drawing, [1, 2], [0.1, None], "adamw", {"color": color(1), "dash": "dot"}, "adamw: %{y}")
    points(drawing, [1], [0.1], "adamw, best", {"size": 7}, "", legendgroup="adamw", showlegend=False)
    curve, best = drawing.data
    assert (curve.mode, curve.line.color, curve.line.dash) == ("lines", color(1), "dot")
    assert curve.hovertemplate == "adamw: %{y}<extra></extra>"
    assert (best.mode, best.marker.size, best.hoverinfo, best.hovertemplate) == ("markers", 7, "skip", None)
    assert (curve.legendgroup, best.legendgroup, best.showlegend) == ("adamw", "adamw", False)


def test_a_heat_map_has_its_first_row_on_top_and_leaves_what_is_no_number_blank():
    drawing = figure("step", "")
    values = np.array([[1.0, np.nan], [0.5, 2.0]])
    heatmap(drawing, [0, 10], ["a", "b"], values, 10 * values, "share", "%{customdata}", zmax=1)
    (trace,) = drawing.data
    assert (list(trace.y), [list(row) for row in trace.z]) == (["a", "b"], [[1.0, None], [0.5, 2.0]])
    assert trace.customdata[1][1] == 20
    assert (trace.zmax, trace.colorbar.title.text) == (1, "share")
    assert (drawing.layout.yaxis.autorange, drawing.layout.yaxis.type) == ("reversed", "category")


def test_the_look_is_a_template_that_nobody_else_gets():
    names = [*pio.templates]
    drawings = figure("x", "y"), subplots(2, 2)
    for drawing in drawings:
        assert drawing.layout.template == template()
        assert drawing.layout.template.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert (pio.templates.default, [*pio.templates]) == ("plotly", names)
    assert len(list(drawings[1].select_xaxes())) == 4
