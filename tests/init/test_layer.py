"""Fans, against counts of the connections."""

from __future__ import annotations

import math
import warnings

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

from steepest.init import He, Xavier, initialize

SMALL = st.integers(1, 3)
FEW = settings(max_examples=10)
CONVS = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}


def fans(layer: nn.Module) -> tuple[float, float]:
    found = []
    for mode in ("fan_in", "fan_out"):
        row = initialize(layer, He(mode))["weight"]
        assert row.std_asked == pytest.approx(1 / math.sqrt(row.fan))
        found.append(row.fan)
    return found[0], found[1]


def counted(layer: nn.Module, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each output how many inputs reach it, and for each input how many outputs it reaches."""
    x = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    layer = layer.double()
    with torch.no_grad():
        layer.weight.fill_(1)
    y = layer(x)
    y.sum().backward()
    return y.detach()[0], x.grad[0]


def middle(counts: torch.Tensor) -> torch.Tensor:
    """Return the counts away from the borders."""
    return counts[(slice(None), *[slice(size // 2 - 6, size // 2 + 6) for size in counts.shape[1:]])]


@FEW
@given(st.integers(1, 2), SMALL, SMALL, SMALL, st.data())
def test_the_fans_of_a_convolution_are_its_connections_away_from_the_borders(dims, groups, inputs, outputs, data):
    kernel = data.draw(st.tuples(*[st.integers(1, 4)] * dims))
    dilation = data.draw(st.tuples(*[st.integers(1, 2)] * dims))
    layer = CONVS[dims][0](inputs * groups, outputs * groups, kernel, groups=groups, dilation=dilation, bias=False)
    fan_in, fan_out = fans(layer)
    into, out_of = counted(layer, (inputs * groups, *[32] * dims))
    assert bool((middle(into) == fan_in).all())
    assert bool((middle(out_of) == fan_out).all())


@FEW
@given(st.integers(1, 2), SMALL, SMALL, SMALL, st.data())
def test_the_fans_of_a_transposed_convolution_are_its_connections_on_average(dims, groups, inputs, outputs, data):
    kernel = data.draw(st.tuples(*[st.integers(1, 4)] * dims))
    stride = data.draw(st.tuples(*[st.integers(1, 3)] * dims))
    layer = CONVS[dims][1](inputs * groups, outputs * groups, kernel, stride, groups=groups, bias=False)
    fan_in, fan_out = fans(layer)
    into, out_of = counted(layer, (inputs * groups, *[24] * dims))
    reached = middle(into)
    reached = reached[reached > 0]  # a stride beyond the kernel leaves outputs that nothing reaches
    assume(all(12 % s == 0 for s in stride))
    assert float(reached.mean()) == pytest.approx(fan_in)
    assert bool((middle(out_of) == fan_out).all())


@given(st.integers(1, 6), st.integers(1, 6))
def test_the_fans_of_a_linear_layer_are_its_connections(inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=False)
    found = fans(layer)
    into, out_of = counted(layer, (inputs,))
    assert found == (into[0], out_of[0])


def test_the_fans_of_a_three_dimensional_convolution_are_its_connections():
    layer = nn.Conv3d(4, 6, (1, 2, 3), groups=2, bias=False)
    found = fans(layer)
    into, out_of = counted(layer, (4, 20, 20, 20))
    assert found == (float(middle(into).mean()), float(middle(out_of).mean())) == (12, 18)


@pytest.mark.parametrize("scheme", [He(), Xavier()])
def test_the_fans_of_other_layers_are_torchs(scheme):
    for layer in (nn.Linear(7, 5), nn.Bilinear(3, 4, 5), nn.Conv2d(6, 8, (3, 5), stride=2)):
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        row = initialize(layer, scheme)["weight"]
        assert row.fan == (fan_in if isinstance(scheme, He) else (fan_in + fan_out) / 2)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_under_he_a_transposed_convolution_keeps_the_size_of_what_it_gets(stride):
    layer = nn.ConvTranspose2d(64, 64, 6, stride=stride, groups=2)
    initialize(layer, "he")
    x = torch.randn(4, 64, 16, 16, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert float(layer(x)[:, :, 8:-8, 8:-8].square().mean()) == pytest.approx(1, rel=0.05)


def test_a_layer_without_inputs_is_refused_by_name():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Linear(0, 5), nn.ReLU())
    with pytest.raises(ValueError, match=r"by its fan_in must have two dimensions or more.*\(got '0.weight'\)"):
        initialize(model, "he")
