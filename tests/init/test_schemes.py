"""Each scheme's law, by references of their own."""

from __future__ import annotations

import math
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from tests.init.models import noise
from torch import nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.init import Constant, He, Layer, Normal, Orthogonal, Xavier, initialize

ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh(), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(),
               nn.Mish(), nn.Softplus(), nn.Hardswish(), nn.Hardtanh(), nn.ReLU6(), nn.CELU(), nn.Softsign(),
               nn.PReLU(init=0.3), nn.Identity()]  # fmt: skip


def deep(activation: nn.Module, width: int = 400, depth: int = 20) -> nn.Sequential:
    return nn.Sequential(*[module for _ in range(depth) for module in (nn.Linear(width, width), activation)])


# torch's gains of these are conventions: their signal settles at a size of its own.
CONVENTIONS = (nn.Tanh, nn.SELU)


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if not isinstance(a, CONVENTIONS)], ids=str)
def test_under_he_what_is_normal_before_an_activation_is_of_unit_variance_behind_the_next_layer(activation):
    layer = nn.Linear(1000, 4000)
    initialize(nn.Sequential(layer, activation), "he")
    with torch.no_grad():
        assert float(layer(activation(noise(500, 1000))).square().mean()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    "activation",
    [pytest.param(a, id=str(a), marks=() if i % 3 == 0 else pytest.mark.slow) for i, a in enumerate(ACTIVATIONS)],
)
def test_under_he_the_size_of_activations_stays_within_a_factor_over_twenty_layers(activation):
    model = deep(activation)
    gain = initialize(model, "he")["0.weight"].gain
    with torch.no_grad():
        end = float(model[:-1](noise(200, 400) / gain).square().mean())
    # Wide, because the chance of one width of 400 adds up, and gelu, silu and hardswish amplify what is off.
    assert 0.02 < end < 50, end


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.3), nn.GELU()], ids=str)
def test_the_default_of_gain_1_would_not_keep_it(activation):
    model = deep(activation)
    for layer in model[::2]:
        initialize(layer, "he")  # by itself, followed by nothing
    with torch.no_grad():
        assert float(model(noise(200, 400)).square().mean()) < 1e-3


def test_fan_out_keeps_the_size_of_gradients_of_a_narrowing_relu_network():
    sizes = [800, 400, 200, 100]
    model = nn.Sequential(*[m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())])
    initialize(model, He("fan_out"))
    x = noise(500, 800).requires_grad_()
    y = model(x)
    y.backward(noise(500, 100, seed=1))
    assert float(x.grad.square().mean()) == pytest.approx(1, rel=0.2)


@settings(max_examples=10)
@given(st.integers(1, 30), st.integers(1, 30))
def test_xavier_divides_by_the_mean_of_the_fans(inputs, outputs):
    row = initialize(nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh()), "xavier")["0.weight"]
    assert row.std_asked == pytest.approx(5 / 3 * math.sqrt(2 / (inputs + outputs)))
    assert row.fan == (inputs + outputs) / 2
    assert row.rule == f"Xavier fan_in={inputs} fan_out={outputs}, tanh"


def test_he_and_xavier_and_orthogonal_are_torchs_own_draws():
    makers = {
        He(): lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
        He("fan_out"): lambda w, g: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", generator=g),
        Xavier(): lambda w, g: nn.init.xavier_normal_(w, gain=math.sqrt(2), generator=g),
        Orthogonal(): lambda w, g: nn.init.orthogonal_(w, gain=math.sqrt(2), generator=g),
    }
    for scheme, make in makers.items():
        for layer in (nn.Linear(7, 5), nn.Conv2d(3, 4, 3)):
            initialize(nn.Sequential(layer, nn.ReLU()), scheme, torch.Generator().manual_seed(3))
            expected = torch.empty_like(layer.weight)
            make(expected, torch.Generator().manual_seed(3))
            torch.testing.assert_close(layer.weight.detach(), expected.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(30, 20), nn.Linear(20, 30), nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 2), nn.Conv1d(4, 64, 3)],
    ids=str,
)
def test_orthogonal_weights_have_orthonormal_rows_or_columns_times_the_gain(layer):
    row = initialize(nn.Sequential(layer, nn.ReLU()), Orthogonal())["0.weight"]
    weight = layer.weight.detach().double()
    weight = (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)
    small, large = sorted(weight.shape)
    gram = weight @ weight.T if weight.shape[0] == small else weight.T @ weight
    torch.testing.assert_close(gram, 2 * torch.eye(small, dtype=torch.float64), rtol=0, atol=1e-5)
    assert row.fan == large
    assert row.std_asked == pytest.approx(math.sqrt(2 / large))
    assert row.std_measured == pytest.approx(row.std_asked, rel=0.05)


def test_orthogonal_fills_each_projection_of_attention_by_itself():
    model = nn.MultiheadAttention(16, 2)
    initialize(model, "orthogonal")
    for part in model.in_proj_weight.detach().chunk(3):
        torch.testing.assert_close(part @ part.T, torch.eye(16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", [He, Xavier, Orthogonal])
def test_the_argument_is_used_where_the_activation_is_not_known_and_only_there(scheme):
    model = nn.ModuleList([nn.Linear(9, 9), nn.Sequential(nn.Linear(9, 9), nn.ReLU())])
    table = initialize(model, scheme(nonlinearity="tanh"))
    assert table["0.weight"].gain == pytest.approx(5 / 3)
    assert table["0.weight"].rule.endswith("activation unknown; taken as tanh")
    assert table["1.0.weight"].gain == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("scheme", [He, Xavier, Orthogonal])
def test_an_unknown_nonlinearity_is_refused(scheme):
    with pytest.raises(UnknownName, match=r"no such nonlinearity \(got 'rellu'\). Did you mean relu"):
        scheme(nonlinearity="rellu")


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_standard_deviation_that_is_not_finite_and_positive_is_refused(std):
    with pytest.raises(InvalidArgument, match=rf"std must be a number in \(0, inf\) \(got {std}\). Pass std > 0"):
        Normal(std=std)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_constant_that_is_not_finite_is_refused(value):
    with pytest.raises(InvalidArgument, match=rf"value must be a finite number \(got {value}\)"):
        Constant(value)


def test_a_fan_that_does_not_exist_is_refused_when_the_scheme_is_made():
    with pytest.raises(InvalidArgument, match=r"fan_in.*fan_out.*got 'fan_avg'"):
        He("fan_avg")


def test_a_layer_says_what_follows_it():
    assert Layer("w", 4, 4).followed_by() == "no activation"
    assert Layer("w", 4, 4).gain() == 1
    assert (
        Layer("w", 4, 4, None, "not reached by the data").followed_by("gelu")
        == "not reached by the data; taken as gelu"
    )
