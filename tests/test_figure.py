import pytest

from steepest._figure import band, color, dash, figure, log_axis, translucent


def test_the_first_series_differ_in_colour_and_those_after_the_palette_in_their_dashes():
    styles = [(color(i), dash(i)) for i in range(20)]
    assert len(set(styles)) == 20


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
    band(drawing, [1, 2], [0.1, 0.2], [0.3, 0.4], "#0072B2", "adamw")
    (trace,) = drawing.data
    assert (trace.legendgroup, trace.fillcolor) == ("adamw", translucent("#0072B2", 0.18))
    assert list(trace.x) == [1, 2, 2, 1]
    assert list(trace.y) == [0.3, 0.4, 0.2, 0.1]


def test_over_many_decades_a_logarithmic_axis_has_a_dozen_ticks_at_most():
    ticks = log_axis([1e-30, 1.0])["tickvals"]
    assert 3 <= sum(1e-30 <= tick <= 1 for tick in ticks) <= 12
