from __future__ import annotations

import plotly.graph_objects as go
import pytest
import torch

from steepest.errors import InvalidArgument
from steepest.implicit_bias import (
    GradientDescent,
    LossDisplay,
    SensitivityDisplay,
    SignDescent,
    TrajectoryDisplay,
    predict,
    simulate,
    two_cycle,
)


def runs(A, b, steps=50):
    rules = {"gradient descent": (GradientDescent(), 0.1), "sign descent": (SignDescent(), 0.01)}
    return {name: (predict(rule, A, b), simulate(rule, A, b, lr, steps)) for name, (rule, lr) in rules.items()}


def test_paths_run_from_the_start_to_the_predicted_points_over_the_line_of_solutions():
    display = TrajectoryDisplay.of(runs([[1.0, 2.0]], [1.0], steps=400))
    assert display.paths["gradient descent"][0] == (0.0, 0.0)
    assert display.paths["gradient descent"][-1] == pytest.approx(display.points["gradient descent"])
    assert display.points["sign descent"] == pytest.approx((1 / 3, 1 / 3))
    assert list(display.solutions) == ["solutions"]
    for x, y in display.solutions["solutions"]:
        assert x + 2 * y == pytest.approx(1)
    drawing = display.plot()
    assert isinstance(drawing, go.Figure)
    assert [trace.name for trace in drawing.data] == [
        "solutions",
        "gradient descent",
        "gradient descent, predicted",
        "sign descent",
        "sign descent, predicted",
    ]
    assert (drawing.layout.xaxis.title.text, drawing.layout.yaxis.title.text) == ("theta[0]", "theta[1]")


def test_where_all_of_the_plane_is_met_each_prediction_has_the_line_of_its_own_other_coordinates():
    display = TrajectoryDisplay.of(runs([[1.0, 0.1, 0.01]], [1.0]), coordinates=(2, 0))
    assert set(display.solutions) == {"gradient descent", "sign descent"}
    for name, other in (("gradient descent", 0.1 / 1.0101), ("sign descent", 1 / 1.11)):
        for x, y in display.solutions[name]:
            assert y + 0.1 * other + 0.01 * x == pytest.approx(1)


def test_equations_that_fix_both_coordinates_have_no_line():
    display = TrajectoryDisplay.of(runs([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [1.0, 1.0]))
    assert display.solutions == {}
    assert len(display.plot().data) == 3, "two paths, and one prediction: sign descent has none on two equations"


@pytest.mark.parametrize("coordinates", [(0, 0), (0, 3), (-1, 1)])
def test_coordinates_are_two_that_theta_has(coordinates):
    with pytest.raises(InvalidArgument, match="0 to 2"):
        TrajectoryDisplay.of(runs([[1.0, 0.1, 0.01]], [1.0]), coordinates)


def test_there_is_a_run_to_show():
    with pytest.raises(InvalidArgument, match="a run to show"):
        TrajectoryDisplay.of({})


def test_the_predicted_cycle_lies_where_the_loss_ends():
    A, b = [[1.0, 0.1, 0.01]], [1.0]
    display = LossDisplay.of({"sign": simulate(SignDescent(), A, b, 0.01, 300)}, {"sign": two_cycle(A[0], 0.01)})
    assert sorted(display.losses["sign"][-2:]) == pytest.approx(list(display.cycles["sign"]), rel=1e-9)
    drawing = display.plot()
    assert len(drawing.layout.shapes) == 2
    assert drawing.layout.yaxis.type == "log"


def test_a_loss_of_zero_and_a_cycle_of_zero_have_no_place_on_a_logarithmic_scale():
    display = LossDisplay({"run": [0, 1]}, {"run": [1.0, 0.0]}, {"run": (0.0, 0.0)})
    drawing = display.plot()
    assert list(drawing.data[0].y) == [1.0, None]
    assert len(drawing.layout.shapes) == 0


def test_bars_hold_the_sensitivities_by_coordinate():
    prediction = predict(GradientDescent(), [[1.0, 0.1]], [1.0])
    values = {"like A": prediction.sensitivity().tolist(), "scale 1": prediction.sensitivity([1.0, 1.0]).tolist()}
    drawing = SensitivityDisplay(values, names=["size", "age"]).plot()
    assert [list(bar.x) for bar in drawing.data] == [["size", "age"]] * 2
    assert list(drawing.data[0].y) == pytest.approx([1 / 1.01, 0.01 / 1.01])
    assert torch.tensor(drawing.data[1].y).tolist() == pytest.approx([1 / 1.01, 0.1 / 1.01])
    assert list(SensitivityDisplay(values).plot().data[0].x) == ["0", "1"]
