from __future__ import annotations

import copy
import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.linearize import (
    ChangeDisplay,
    FeaturesDisplay,
    FunctionDisplay,
    LearningDisplay,
    Linearization,
    PrincipalFeaturesDisplay,
    SpectrumDisplay,
    compare_linearizations,
)
from steepest.tasks import curve

GRID = torch.linspace(0, 1, 101, dtype=torch.float64)


def course(width=10, depth=1, seed=0):
    """The course's network and data, and its linearization."""
    task = curve(width, depth)
    model = task.build(seed).double()
    x, y = (tensor.double() for tensor in task.train)
    return model, x, y, Linearization(model, x)


@pytest.fixture(scope="module")
def net():
    return course()


def jacobian(model, x):
    """d y(x) / d theta by plain autograd: one row an x, in the order of named_parameters()."""
    rows = []
    for value in model(x[:, None])[:, 0]:
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def test_a_spectrum_holds_every_value_with_rank_and_threshold(net):
    _, _, _, linearization = net
    svd = linearization.svd()
    display = SpectrumDisplay.of(svd)
    assert display.singular_values["singular values"] == svd.singular_values.tolist()
    assert display.ranks == {"singular values": svd.rank}
    assert display.thresholds == {"singular values": svd.threshold}


def test_what_lies_beyond_the_rank_is_pale_and_the_threshold_a_line_that_is_seen(net):
    _, _, _, linearization = net
    svd = linearization.svd()
    assert 0 < svd.rank < 31
    drawing = SpectrumDisplay.of(svd).plot()
    (points,) = drawing.data
    assert list(points.marker.opacity) == [1.0] * svd.rank + [0.25] * (31 - svd.rank)
    (line,) = drawing.layout.shapes
    assert line.y0 == line.y1 == svd.threshold
    assert drawing.layout.annotations[0].text == f"rank {svd.rank}"
    low, high = (10**end for end in drawing.layout.yaxis.range)
    assert low < svd.threshold < high
    assert all(low < value < high for value in points.y)


def test_a_full_rank_spectrum_still_shows_how_far_its_threshold_is():
    display = SpectrumDisplay({"s": [3.0, 2.0, 1.0]}, {"s": 3}, {"s": 1e-8})
    drawing = display.plot()
    assert 10 ** drawing.layout.yaxis.range[0] < 1e-8
    assert list(drawing.data[0].marker.opacity) == [1.0] * 3


def test_a_singular_value_of_zero_stands_on_the_floor_and_says_that_it_is_zero():
    (points,) = SpectrumDisplay({"s": [1.0, 0.0]}, {"s": 1}, {"s": 1e-10}).plot().data
    assert list(points.y) == [1.0, 1e-14]
    assert points.customdata[1] == "0, beyond the rank"


def test_a_spectrum_of_zeros_only_is_drawn_without_points():
    (points,) = SpectrumDisplay({"s": [0.0, 0.0]}, {"s": 0}, {"s": 0.0}).plot().data
    assert list(points.y) == [None, None]


def test_several_spectra_keep_their_names_and_colours(net):
    _, _, _, linearization = net
    drawing = SpectrumDisplay.of({"start": linearization.svd(), "end": linearization.svd(5)}).plot()
    assert [trace.name for trace in drawing.data] == ["start", "end"]
    assert [len(trace.x) for trace in drawing.data] == [31, 5]
    assert drawing.data[0].marker.color != drawing.data[1].marker.color


def test_a_rank_beyond_what_is_shown_is_marked_at_the_last_value_and_an_unknown_one_says_so():
    note = SpectrumDisplay({"s": [3.0, 2.0]}, {"s": 2}, {"s": 1e-8}, {"s": False}).plot().layout.annotations[0]
    assert (note.x, note.text) == (2, "rank at least 2")
    note = SpectrumDisplay({"s": [3.0, 2.0]}, {"s": 7}, {"s": 1e-8}).plot().layout.annotations[0]
    assert (note.x, note.text) == (2, "rank 7")


def test_features_are_the_strongest_columns_of_the_jacobian_within_the_range_of_all(net):
    model, _, _, linearization = net
    display = FeaturesDisplay.of(linearization, GRID, strongest=4)
    dense = jacobian(model, GRID).T.numpy()
    start = 0
    for name, parameter in model.named_parameters():
        block = dense[start : start + parameter.numel()]
        start += parameter.numel()
        order = np.argsort(-np.linalg.norm(block, axis=1), kind="stable")[:4]
        assert display.counts[name] == len(block)
        assert list(display.indices[name]) == order.tolist()
        np.testing.assert_allclose(display.curves[name], block[order], rtol=1e-12, atol=1e-14)
        expected = np.quantile(block, (0, 0.1, 0.9, 1), axis=0)
        np.testing.assert_allclose(display.bands[name], expected, rtol=1e-12, atol=1e-14)


def test_features_do_not_depend_on_how_many_points_are_looked_at_at_a_time(net, monkeypatch):
    _, _, _, linearization = net
    whole = FeaturesDisplay.of(linearization, GRID)
    monkeypatch.setattr("steepest.linearize._displays.functions._CHUNK", 70)
    parts = FeaturesDisplay.of(linearization, GRID)
    for name in whole.curves:
        np.testing.assert_allclose(parts.curves[name], whole.curves[name], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(parts.bands[name], whole.bands[name], rtol=1e-12, atol=1e-14)


def test_elbows_are_where_a_unit_of_the_first_layer_switches(net):
    model, _, _, linearization = net
    elbows = FeaturesDisplay.of(linearization, GRID).elbows
    hidden = model[0](torch.tensor(elbows, dtype=torch.float64)[:, None])
    assert len(elbows) == 10
    assert float(hidden.detach().diagonal().abs().max()) < 1e-12


@pytest.mark.parametrize(
    "model",
    [nn.Linear(1, 3, bias=False), nn.Sequential(nn.LayerNorm(1), nn.Linear(1, 2))],
    ids=["no bias", "no linear layer first"],
)
def test_where_the_first_layer_has_no_elbows_none_are_drawn(model):
    display = FeaturesDisplay.of(Linearization(model.double(), GRID[:5, None]), GRID)
    assert list(display.elbows) == []
    assert len(display.plot().layout.shapes) == 0


def test_a_unit_whose_weight_is_zero_has_no_elbow(net):
    model, x, _, _ = net
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight[3] = 0
    assert len(FeaturesDisplay.of(Linearization(model, x), GRID).elbows) == 9


def test_features_are_drawn_for_one_parameter_or_in_a_panel_for_each(net):
    _, _, _, linearization = net
    display = FeaturesDisplay.of(linearization, GRID, strongest=4)
    one = display.plot("0.weight")
    assert len(one.data) == 2 + 4, "two bands and four curves"
    assert one.layout.shapes[0].path.count("M") == sum(0 <= elbow <= 1 for elbow in display.elbows)
    every = display.plot()
    assert isinstance(every, go.Figure)
    assert len(every.data) == 3 * (2 + 4) + (2 + 1)
    assert [note.text for note in every.layout.annotations] == [
        "0.weight: 10",
        "0.bias: 10",
        "2.weight: 10",
        "2.bias: 1",
    ]
    assert {shape.xref for shape in every.layout.shapes} == {"x", "x2", "x3", "x4"}
    with pytest.raises(UnknownName, match=r"Did you mean 0\.weight"):
        display.plot("0.weigth")


def test_principal_features_are_the_jacobian_times_right_vectors_and_unit_left_vectors_at_the_examples(net):
    model, x, _, linearization = net
    display = PrincipalFeaturesDisplay.of(linearization, GRID, k=3)
    left, values, right = torch.linalg.svd(jacobian(model, x[:, 0]), full_matrices=False)
    expected = (jacobian(model, GRID) @ right[:3].T).T.numpy()
    signs = np.sign((display.features * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(display.features, signs * expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(display.at_points, signs * (left[:, :3] * values[:3]).T.numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(display.singular_values, values[:3].numpy(), rtol=1e-12)
    np.testing.assert_array_equal(display.points, x[:, 0].numpy())


def test_principal_features_have_a_sign_of_their_own_or_that_of_another_display(net):
    _, x, _, linearization = net
    display = PrincipalFeaturesDisplay.of(linearization, x)
    largest = np.abs(display.at_points).argmax(1)
    assert (display.at_points[range(6), largest] > 0).all()
    turned = PrincipalFeaturesDisplay(
        display.x, -display.features, display.singular_values, display.points, -display.at_points
    )
    again = PrincipalFeaturesDisplay.of(linearization, x, like=turned)
    np.testing.assert_array_equal(again.features, -display.features)


def test_principal_features_are_drawn_with_mean_square_one_at_the_examples(net):
    _, x, _, linearization = net
    display = PrincipalFeaturesDisplay.of(linearization, x, k=3)
    drawing = display.plot()
    assert [note.text[:2] for note in drawing.layout.annotations] == ["1:", "2:", "3:"]
    for trace in drawing.data:
        assert np.mean(np.square(trace.y)) == pytest.approx(1, rel=1e-9)
    (second,) = display.plot(2).data
    assert list(second.y) == list(drawing.data[1].y)
    for k in (0, 4):
        with pytest.raises(InvalidArgument, match=rf"k must be a whole number from 1 to 3 \(got {k}\)"):
            display.plot(k)


def test_there_are_never_more_principal_features_than_the_rank():
    linearization = Linearization(nn.Linear(1, 1).double(), GRID[:, None])
    assert len(PrincipalFeaturesDisplay.of(linearization, GRID).features) == linearization.svd().rank == 2


def test_the_function_is_the_networks_and_the_linearised_model_fits_what_it_can(net):
    model, x, y, linearization = net
    display = FunctionDisplay.of(linearization, x, y, 1e12, directions=(2,))
    np.testing.assert_array_equal(display.network, model(x)[:, 0].detach().numpy())
    dense = jacobian(model, x[:, 0])
    residual = (y - model(x))[:, 0].detach()
    left = torch.linalg.svd(dense, full_matrices=False)[0][:, :2]
    first = model(x)[:, 0].detach() + left @ (left.T @ residual)
    np.testing.assert_allclose(display.linearized["linearised, first 2 directions"], first.numpy(), atol=1e-9)
    solution = torch.linalg.lstsq(dense, residual[:, None], driver="gelsd").solution
    best = model(x)[:, 0].detach() + (dense @ solution)[:, 0]
    misfit = np.square(display.linearized["linearised"] - y[:, 0].numpy()).mean()
    assert misfit == pytest.approx(float((best - y[:, 0]).square().mean()), rel=1e-6)


def test_the_functions_scale_is_that_of_examples_and_network(net):
    _, x, y, linearization = net
    drawing = FunctionDisplay.of(linearization, GRID, y, 1.0).plot()
    assert [trace.name for trace in drawing.data] == ["examples", "linearised", "network"]
    low, high = drawing.layout.yaxis.range
    assert low < float(y.min()) < float(y.max()) < high
    assert high - low == pytest.approx(1.4 * float(y.max() - y.min()), rel=1e-6)
    assert len(x) == len(drawing.data[0].x)


def test_learning_follows_each_direction_until_it_has_shrunk_by_e(net):
    _, _, y, linearization = net
    times = [0.0, *np.logspace(-3, 4, 200)]
    display = LearningDisplay.of(linearization.trajectory(times, y=y), k=3)
    assert display.residuals.shape == (201, 3)
    np.testing.assert_allclose(display.learned_at, 200 / (2 * display.singular_values**2), rtol=1e-12)
    drawing = display.plot()
    curves, dots = drawing.data[::2], drawing.data[1::2]
    assert [trace.name for trace in curves] == ["direction 1", "direction 2", "direction 3"]
    assert min(curves[0].x) > 0, "time 0 has no place on a logarithmic scale"
    for k, dot in enumerate(dots):
        assert dot.x == (display.learned_at[k],)
        assert dot.y[0] == pytest.approx(display.residuals[0, k] / math.e, rel=2e-3)


def test_a_direction_that_is_learned_later_than_is_looked_has_no_dot(net):
    _, _, y, linearization = net
    display = LearningDisplay.of(linearization.trajectory([1e-9, 1e-8], y=y), k=1)
    assert display.plot().data[1].x == (None,)


def test_change_compares_each_step_with_the_first():
    _, x, y, first = course(seed=0)
    other = course(seed=1)[3]
    display = ChangeDisplay.of({0: first, 100: other}, y, ridge=1e-2)
    change = compare_linearizations(first, other)
    assert display.shares["kernel alignment with the start"] == pytest.approx([1, change.kernel_alignment])
    assert display.shares["subspace overlap with the start"] == pytest.approx([1, change.subspace_overlap])
    assert display.shares["kernel alignment with the target"] == [each.alignment(y).value for each in (first, other)]
    assert display.counts["numerical rank"] == [first.svd().rank, other.svd().rank]
    ridges = [1e-2 * float(each.svd().singular_values[0]) ** 2 for each in (first, other)]
    assert display.counts["effective rank"] == [first.effective_rank(ridges[0]), other.effective_rank(ridges[1])]
    assert "kernel alignment with the target" not in ChangeDisplay.of({0: first}).shares
    assert len(x) == 200


def test_change_is_drawn_in_two_panels_with_the_steps_as_labels_and_a_line_at_one():
    display = ChangeDisplay([0, 10, 1000], {"a": [1.0, 0.9, 0.4]}, {"rank": [5, 6, 3]})
    drawing = display.plot(10)
    assert [(trace.name, trace.yaxis) for trace in drawing.data] == [("a", "y"), ("rank", "y2")]
    assert dict(zip(drawing.layout.xaxis.tickvals, drawing.layout.xaxis.ticktext, strict=True)) == {
        2: "1,000",
        1: "10",
        0: "0",
    }
    assert [(shape.x0, shape.x1) for shape in drawing.layout.shapes] == [(1, 1)]
    assert len(display.plot().layout.shapes) == 0


def test_many_steps_get_six_labels_and_the_last_is_among_them():
    ticks = ChangeDisplay(range(16), {}, {"rank": [1.0] * 16}).plot().layout.xaxis.tickvals
    assert len(ticks) == 6
    assert 15 in ticks


def test_change_needs_a_linearization():
    with pytest.raises(InvalidArgument, match="linearizations must hold at least one"):
        ChangeDisplay.of({})


@pytest.mark.parametrize("make", [FeaturesDisplay.of, PrincipalFeaturesDisplay.of], ids=["features", "principal"])
def test_functions_of_x_are_refused_for_other_inputs_outputs_and_points(net, make):
    two = Linearization(nn.Linear(2, 1), torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(InvalidArgument, match="the model must have one real input"):
        make(two, GRID)
    _, _, _, one = net
    with pytest.raises(InvalidArgument, match=r"output must be a whole number from 0 to 0 \(got 1\)"):
        make(one, GRID, output=1)
    with pytest.raises(InvalidArgument, match="x must be m numbers"):
        make(one, torch.zeros(4, 2))
    with pytest.raises(InvalidArgument, match="x must be m numbers"):
        make(one, torch.zeros(0))


def test_of_a_model_with_several_outputs_one_is_shown():
    torch_model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    linearization = Linearization(torch_model, GRID[::10, None])
    shown = FeaturesDisplay.of(linearization, GRID, output=2)
    third = Linearization(nn.Sequential(*torch_model, Pick(2)), GRID[::10, None])
    alone = FeaturesDisplay.of(third, GRID)
    for name in shown.curves:
        np.testing.assert_allclose(shown.bands[name], alone.bands[name], rtol=1e-12, atol=1e-14)
    principal = PrincipalFeaturesDisplay.of(linearization, GRID, output=2)
    np.testing.assert_allclose(
        np.abs(principal.features),
        np.abs(linearization.principal_features(GRID[:, None], 6)[2::3].T.numpy()),
        rtol=1e-9,
        atol=1e-12,
    )
    assert principal.at_points.shape == (6, len(GRID[::10]))


class Pick(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, x):
        return x[:, [self.index]]
