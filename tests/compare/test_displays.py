import math

import numpy as np
import pytest

from steepest.compare import Cell, CurvesDisplay, DifferencesDisplay, LearningRateDisplay, Measure
from steepest.compare._result.against import Against, against
from steepest.compare._result.curves import curve_of
from steepest.compare._sequential import Difference
from steepest.errors import InvalidArgument
from steepest.train import History

INF, NAN = math.inf, math.nan
A, B, C = (Cell(name, "he") for name in "abc")


def curves(**options):
    given = {
        "x": {"a": [[0, 10, 20], [0, 10, 20], [0, 10, 20]], "b": [[0, 10, 20]]},
        "y": {"a": [[4.0, 2.0, 1.0], [4.0, 3.0, 2.0], [4.0, 4.0, 3.0]], "b": [[4.0, 1.0, 0.5]]},
    }
    return CurvesDisplay(**{**given, **options})


def traces(drawing, name, *, mode):
    return [trace for trace in drawing.data if trace.legendgroup == name and trace.mode == mode and not trace.fill]


def test_a_curve_is_the_median_over_the_runs_and_each_run_ends_in_a_dot():
    drawing = curves().plot()
    (line,) = traces(drawing, "a", mode="lines")
    assert list(line.x) == [0, 10, 20]
    assert list(line.y) == [4.0, 3.0, 2.0]
    (dots,) = traces(drawing, "a", mode="markers")
    assert list(dots.y) == [1.0, 2.0, 3.0]
    assert len({next(iter(trace.x)) for name in "ab" for trace in traces(drawing, name, mode="markers")}) == 2


def test_a_run_that_diverged_counts_as_the_worst_from_then_on_and_has_no_dot():
    drawing = curves(x={"a": [[0, 10, 20], [0, 7], [0, 3]]}, y={"a": [[4.0, 2.0, 1.0], [4.0, INF], [5.0, INF]]}).plot()
    (line,) = traces(drawing, "a", mode="lines")
    assert list(line.x) == [0, 10, 20]
    assert list(line.y) == [4.0, None, None]
    (dots,) = traces(drawing, "a", mode="markers")
    assert list(dots.y) == [1.0]


def test_of_a_metric_of_which_higher_is_better_a_diverged_run_has_the_lowest():
    drawing = curves(
        x={"a": [[0, 10], [0, 10], [0, 4]]}, y={"a": [[0.1, 0.8], [0.1, 0.9], [0.2, NAN]]}, higher_is_better=True
    ).plot()
    (line,) = traces(drawing, "a", mode="lines")
    assert list(line.y) == [0.1, 0.8]
    assert drawing.layout.yaxis.type is None


def test_over_seconds_a_curve_stands_at_the_median_time_of_its_points():
    drawing = curves(x={"a": [[0, 1, 2], [0, 2, 4], [0, 5, 9]], "b": [[0, 1, 2]]}, x_title="seconds").plot()
    (line,) = traces(drawing, "a", mode="lines")
    assert list(line.x) == [0, 2, 4]
    (dots,) = traces(drawing, "a", mode="markers")
    assert list(dots.x) == [2, 4, 9]


def test_a_history_gives_its_curves_over_both():
    history = History(
        steps=[0, 10, 20],
        valid_loss=[3.0, 2.0, 1.0],
        valid_metrics={"accuracy": [0.1, 0.5, 0.9]},
        seconds=[0.0, 1.0, 4.0],
        duration=5.0,
        diverged=False,
        seconds_per_step=0.2,
        state_bytes=0,
        gradient_steps=[0, 5, 15],
        train_loss=[3.0, 2.5, 1.5],
        mean_gradient_norm=[1.0, 1.0, 1.0],
    )
    assert curve_of(history, "loss", "seconds") == ([0.0, 1.0, 4.0], [3.0, 2.0, 1.0])
    assert curve_of(history, "accuracy", "steps") == ([0.0, 10.0, 20.0], [0.1, 0.5, 0.9])
    assert curve_of(history, "training loss", "seconds") == ([0.0, 0.5, 2.5], [3.0, 2.5, 1.5])


@pytest.mark.parametrize(
    "wrong",
    [{"x": {"a": [[0, 1]], "b": [[0]]}}, {"x": {"c": [[0]]}}, {"x": {"a": [], "b": []}, "y": {"a": [], "b": []}}],
    ids=["lengths", "names", "no run"],
)
def test_curves_that_do_not_fit_are_refused(wrong):
    with pytest.raises(InvalidArgument):
        curves(**wrong)


@pytest.mark.parametrize("higher", [False, True])
def test_a_difference_from_the_choice_is_turned_to_the_choice_and_to_the_measure(higher):
    pairs = [
        Difference(A, B, 10, -0.3, -0.5, -0.1, 0.01, A),
        Difference(A, C, 10, 0.2, -0.2, 0.4, 0.5, None),
        Difference(B, C, 5, 0.5, 0.1, 0.7, 0.01, C),
    ]
    found = against(B, pairs, Measure("accuracy", True) if higher else Measure())
    expected = (
        [Against(A, 10, 0.3, 0.1, 0.5), Against(C, 5, 0.5, 0.1, 0.7)]
        if higher
        else [
            Against(A, 10, -0.3, -0.5, -0.1),
            Against(C, 5, -0.5, -0.7, -0.1),
        ]
    )
    assert found == expected


def test_differences_that_say_nothing_are_not_drawn_and_colours_are_those_of_the_other_displays():
    display = DifferencesDisplay(
        names=["a", "b", "c", "d"],
        choice="b",
        differences={"a": 0.5, "c": 0.1, "d": 0.2},
        lows={"a": 0.1, "c": -0.3, "d": -INF},
        highs={"a": 0.9, "c": 0.5, "d": INF},
        margin=0.05,
    )
    drawing = display.plot()
    assert [trace.name for trace in drawing.data] == ["c", "a"]
    both = curves(x={name: [[0]] for name in "abcd"}, y={name: [[1.0]] for name in "abcd"}).plot()
    for trace in drawing.data:
        assert trace.marker.color == traces(both, trace.name, mode="lines")[0].line.color
    assert drawing.data[0].error_x.array == (0.4,)
    assert np.allclose(drawing.data[0].error_x.arrayminus, (0.4,))
    assert {shape.x0 for shape in drawing.layout.shapes} == {0, -0.05}


@pytest.mark.parametrize(
    ("higher", "losses", "scale"),
    [(False, [0.5, -0.2, INF], None), (True, [0.5, 0.9, -INF], None), (False, [0.01, 2.0, INF], "log")],
)
def test_rates_at_which_a_run_diverged_stand_on_the_side_of_the_worst(higher, losses, scale):
    drawing = LearningRateDisplay({"a": [0.1, 1.0, 10.0]}, {"a": losses}, {"a": 0.1}, "accuracy", higher).plot()
    line, crosses = drawing.data
    assert list(line.y) == [*losses[:2], None]
    assert list(crosses.x) == [10.0]
    assert (crosses.y[0] < min(losses[:2])) if higher else (crosses.y[0] > max(losses[:2]))
    assert drawing.layout.yaxis.type == scale
