"""The gains, and which activation follows a layer."""

from __future__ import annotations

import functools
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from tests.init.models import GPT, bits, course_network, made, noise, resnet, same_bits
from torch import nn

from steepest.init import Activation, initialize

BY_TORCH = {
    "relu": nn.ReLU(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "selu": nn.SELU(), "linear": nn.Identity(),
}  # fmt: skip


def row(model: nn.Module, name: str = "0.weight", data=None):
    return initialize(model, "he", data=data)[name]


def both_ways(model: nn.Module, data, name: str = "0.weight"):
    """Return the row found by symbols, which has to be the one found by a run."""
    by_symbols, by_run = row(model, name), row(model, name, data)
    assert by_symbols == by_run
    return by_symbols


@pytest.mark.parametrize("name", BY_TORCH)
def test_the_gain_is_torchs_where_torch_knows_the_function(name):
    model = nn.Sequential(nn.Linear(4, 4), BY_TORCH[name], nn.Linear(4, 4))
    assert both_ways(model, noise(2, 4)).gain == pytest.approx(nn.init.calculate_gain(name))


def phi(x):
    return (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2


def sigma(x):
    return 1 / (1 + mpmath.exp(-x))


FUNCTIONS = {
    "gelu": (nn.GELU(), lambda z: z * phi(z), [0]),
    "silu": (nn.SiLU(), lambda z: z * sigma(z), [0]),
    "mish": (nn.Mish(), lambda z: z * mpmath.tanh(mpmath.log(1 + mpmath.exp(z))), [0]),
    "softplus": (nn.Softplus(), lambda z: mpmath.log(1 + mpmath.exp(z)), [0]),
    "elu": (nn.ELU(0.5), lambda z: z if z > 0 else 0.5 * (mpmath.exp(z) - 1), [0]),
    "celu": (nn.CELU(2.0), lambda z: z if z > 0 else 2 * (mpmath.exp(z / 2) - 1), [0]),
    "hardtanh": (nn.Hardtanh(-2, 0.5), lambda z: min(max(z, -2), 0.5), [-2, 0.5]),
    "relu6": (nn.ReLU6(), lambda z: min(max(z, 0), 6), [0, 6]),
    "hardswish": (nn.Hardswish(), lambda z: z * min(max(z + 3, 0), 6) / 6, [-3, 3]),
    "hardsigmoid": (nn.Hardsigmoid(), lambda z: min(max(z + 3, 0), 6) / 6, [-3, 3]),
    "softsign": (nn.Softsign(), lambda z: z / (1 + abs(z)), [0]),
    "logsigmoid": (nn.LogSigmoid(), lambda z: mpmath.log(sigma(z)), [0]),
    "softshrink": (nn.Softshrink(0.3), lambda z: z - 0.3 if z > 0.3 else z + 0.3 if z < -0.3 else 0, [-0.3, 0.3]),
    "hardshrink": (nn.Hardshrink(0.3), lambda z: z if abs(z) > 0.3 else 0, [-0.3, 0.3]),
    "tanhshrink": (nn.Tanhshrink(), lambda z: z - mpmath.tanh(z), [0]),
    "glu": (nn.GLU(), lambda z: sigma(z), [0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_gain_keeps_the_forward_variance_where_torch_knows_none(name):
    module, function, kinks = FUNCTIONS[name]
    with mpmath.workdps(20):
        points = [-mpmath.inf, *kinks, mpmath.inf]
        density = mpmath.sqrt(2 * mpmath.pi)
        moment = mpmath.quad(lambda z: function(z) ** 2 * mpmath.exp(-z * z / 2) / density, points)
    model = nn.Sequential(nn.Linear(4, 4), module)
    # The kinks of hardshrink are jumps, of which the sum over steps of 0.001 sees the half of one.
    assert both_ways(model, noise(2, 4)).gain == pytest.approx(float(1 / mpmath.sqrt(moment)), rel=1e-4)


def test_the_gains_of_gelu_and_silu_are_the_known_ones():
    assert Activation("gelu").gain == pytest.approx(1.5335, abs=1e-4)
    assert Activation("silu").gain == pytest.approx(1.6765, abs=1e-4)
    assert Activation("sin").gain == pytest.approx(1 / math.sqrt((1 - math.exp(-2)) / 2), rel=1e-9)


@pytest.mark.parametrize(
    ("function", "gain"),
    [
        (F.relu, math.sqrt(2)),
        (torch.relu, math.sqrt(2)),
        (lambda x: x.relu(), math.sqrt(2)),
        (lambda x: x.relu_(), math.sqrt(2)),
        (lambda x: F.relu(x, inplace=True), math.sqrt(2)),
        (lambda x: x.clamp(min=0), math.sqrt(2)),
        (lambda x: torch.clamp(x, 0), math.sqrt(2)),
        (lambda x: x.clamp_min(0), math.sqrt(2)),
        (torch.tanh, 5 / 3),
        (lambda x: x.tanh(), 5 / 3),
        (torch.sigmoid, 1),
        (lambda x: F.leaky_relu(x, 0.2), math.sqrt(2 / 1.04)),
        (lambda x: F.leaky_relu(x, negative_slope=0.2), math.sqrt(2 / 1.04)),
        (F.leaky_relu, math.sqrt(2 / 1.0001)),
        (F.selu, 3 / 4),
        (F.gelu, 1.5335),
        (lambda x: F.gelu(x, approximate="tanh"), 1.5336),
        (F.silu, 1.6765),
        (F.elu, 1.2452),
        (F.mish, 1.4868),
        (F.hardtanh, 1.3920),
        (torch.sin, 1.5209),
        (lambda x: F.softmax(x, -1), 1),
        (lambda x: 3 * x + 1, 1),
    ],
)
def test_an_activation_called_as_a_function_counts_like_a_module(function, gain):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.second(function(self.first(x)))

    found = both_ways(Model(), noise(2, 4), "first.weight")
    assert found.gain == pytest.approx(gain, abs=1e-4)
    assert "unknown" not in found.rule


def test_a_model_with_functions_and_its_twin_with_modules_get_the_same_bits():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            for i in range(0, 22, 2):
                self.add_module(str(i), nn.Linear(64 if i == 0 else 50, 10 if i == 20 else 50))

        def forward(self, x):
            for i in range(0, 20, 2):
                x = F.relu(getattr(self, str(i))(x))
            return getattr(self, "20")(x)

    functional, modular = Functional(), course_network()
    tables = [str(initialize(model, "he")) for model in (functional, modular)]
    assert tables[0] == tables[1]
    assert same_bits(bits(functional), bits(modular))


@pytest.mark.parametrize(
    "between",
    [
        [nn.BatchNorm1d(4)], [nn.LayerNorm(4)], [nn.Dropout(0.5)], [nn.Unflatten(1, (2, 2)), nn.Flatten()],
        [nn.Identity(), nn.BatchNorm1d(4), nn.Dropout(0.1)], [nn.AvgPool1d(1), nn.MaxPool1d(1)],
    ],
)  # fmt: skip
def test_norms_shapes_dropout_and_pooling_are_looked_through(between):
    model = nn.Sequential(nn.Linear(4, 4), *between, nn.Tanh(), nn.Linear(4, 4))
    assert both_ways(model, noise(3, 4)).gain == pytest.approx(5 / 3)


class Applied(nn.Module):
    """linear, then what the user wrote, then linear."""

    def __init__(self, function, width: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(width, 4)
        self.function = function

    def forward(self, x):
        return self.second(self.function(self.first(x)))


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class Squared(nn.Module):
    def forward(self, x):
        return F.relu(x) ** 2


class Wrapped(nn.Module):
    def forward(self, x):
        return F.gelu(x)


class Thresholded(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, 0.1 * x)


@pytest.mark.parametrize("activation", [Swish(), Squared(), Thresholded(), torch.exp])
def test_an_activation_of_the_users_own_is_unknown_and_the_table_says_what_it_is_taken_as(activation):
    found = both_ways(Applied(activation), noise(2, 4), "first.weight")
    assert found.rule == "He fan_in=4, activation unknown; taken as relu"
    assert found.gain == pytest.approx(math.sqrt(2))


def test_an_activation_of_the_users_own_is_known_if_its_body_is():
    assert both_ways(Applied(Wrapped()), noise(2, 4), "first.weight").rule == "He fan_in=4, gelu"


def test_of_a_gated_unit_the_gate_has_its_activation_and_the_gated_none():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.down(F.silu(self.gate(x)) * self.up(x))

    rules = {name: both_ways(Gated(), noise(2, 4), f"{name}.weight").rule for name in ("gate", "up", "down")}
    assert rules == {
        "gate": "He fan_in=4, silu",
        "up": "He fan_in=4, no activation",
        "down": "He fan_in=8, no activation",
    }


def test_a_layer_that_is_used_with_different_activations_says_so_and_takes_the_argument():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)

        def forward(self, x):
            return self.first(torch.tanh(self.first(F.relu(self.first(x)))))

    found = both_ways(Twice(), noise(2, 4), "first.weight")
    assert found.rule == "He fan_in=4, followed by no activation and relu and tanh; taken as relu"
    assert found.gain == pytest.approx(math.sqrt(2))


def test_a_layer_that_is_used_twice_with_the_same_activation_has_its_gain():
    layer = nn.Linear(4, 4)
    assert both_ways(nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh()), noise(2, 4)).gain == pytest.approx(5 / 3)


def test_in_a_resnet_every_convolution_is_followed_by_relu_and_the_head_by_nothing():
    by_symbols, by_run = initialize(resnet(), "he"), initialize(resnet(), "he", data=noise(2, 3, 8, 8))
    assert str(by_symbols) == str(by_run)
    convolutions = [r for r in by_symbols if r.gain == r.gain and r.parameter != "9.weight"]
    assert len(convolutions) == 8
    assert all(r.gain == pytest.approx(math.sqrt(2)) for r in convolutions)
    assert by_symbols["9.weight"].gain == 1


def test_in_a_gpt_only_what_feeds_gelu_has_a_gain_and_the_fused_projection_is_found():
    for data in (None, torch.arange(8).reshape(2, 4)):
        table = initialize(GPT(), "he", data=data)
        for r in table:
            if ".c_fc.weight" in r.parameter:
                assert r.rule == "He fan_in=8, gelu"
            elif "blocks" in r.parameter and r.gain == r.gain:
                assert "no activation" in r.rule
        assert table["blocks.0.c_attn.weight"].rule.endswith("per projection (fused by its name)")
        assert "shared with lm_head.weight" in table["wte.weight"].rule


@pytest.mark.parametrize(
    ("activation", "said"),
    [("relu", "relu"), ("gelu", "gelu"), (F.silu, "silu"), (nn.Tanh(), "tanh"), (nn.PReLU(init=0.3), "leaky_relu(0.3)"),
     (functools.partial(F.leaky_relu, negative_slope=0.2), "leaky_relu(0.2)"), (lambda x: F.elu(x), "elu"),
     (Swish(), "activation unknown; taken as relu"), (lambda x: x.undefined(), "activation unknown; taken as relu")],
)  # fmt: skip
@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_in_torchs_transformer_layers_linear1_has_the_layers_activation_and_all_else_none(kind, activation, said):
    model = kind(8, 2, 16, activation=activation)
    table = initialize(model, "he")
    assert table["linear1.weight"].rule == f"He fan_in=8, {said}"
    for name in ("linear2.weight", "self_attn.in_proj_weight", "self_attn.out_proj.weight"):
        assert "no activation" in table[name].rule
    assert table["self_attn.in_proj_weight"].gain == 1


def test_what_is_in_front_of_torchs_transformers_and_behind_them_is_followed():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    model = nn.Sequential(nn.Linear(5, 8), encoder, nn.Linear(8, 3), nn.Tanh())
    for mode in (True, False):
        assert both_ways(model.train(mode), noise(2, 4, 5)).rule == "He fan_in=5, no activation"
        assert both_ways(model, noise(2, 4, 5), "2.weight").rule == "He fan_in=8, tanh"


def test_the_order_of_draws_is_the_models_whatever_is_found():
    known, unknown = made(Applied, nn.ReLU()), made(Applied, Thresholded())
    for model in (known, unknown):
        initialize(model, "he")
    assert same_bits(bits(known), bits(unknown))
