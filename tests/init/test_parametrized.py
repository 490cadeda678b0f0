"""Weights behind torch.nn.utils.parametrizations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from steepest.init import Orthogonal, initialize

WORDS = "through the parametrization of weight"


def test_a_weight_normed_weight_is_the_one_that_the_plain_layer_gets():
    plain = nn.Sequential(nn.Linear(30, 20), nn.ReLU())
    normed = nn.Sequential(parametrizations.weight_norm(nn.Linear(30, 20)), nn.ReLU())
    memory = [p.data_ptr() for p in normed.parameters()]
    initialize(plain, "he")
    table = initialize(normed, "he")
    torch.testing.assert_close(normed[0].weight.detach(), plain[0].weight.detach())
    for i in (0, 1):
        row = table[f"0.parametrizations.weight.original{i}"]
        assert row.rule == f"He fan_in=30, relu, {WORDS}"
        assert (row.fan, row.gain) == (30, pytest.approx(math.sqrt(2)))
        assert math.isnan(row.std_asked)
    assert [p.data_ptr() for p in normed.parameters()] == memory


def test_a_weight_norm_cannot_be_zero_and_is_left_as_it_was_and_the_table_says_so():
    layer = parametrizations.weight_norm(nn.Linear(4, 3))
    before = layer.weight.detach().clone()
    with pytest.warns(UserWarning, match="weight is as the model made it: WeightNorm cannot be given this weight"):
        row = initialize(layer, "zero")["parametrizations.weight.original0"]
    assert torch.equal(layer.weight.detach(), before)
    assert row.rule == "as ParametrizedLinear made it: WeightNorm cannot be given a weight"


def test_a_spectral_norm_is_filled_before_its_division_and_divides_by_the_new_norm():
    layer = parametrizations.spectral_norm(nn.Linear(30, 20))
    buffers = dict(layer.named_buffers())
    row = initialize(layer, "he")["parametrizations.weight.original"]
    assert row.rule == f"He fan_in=30, no activation, {WORDS}"
    assert row.std_measured == pytest.approx(1 / math.sqrt(30), rel=0.1)
    assert all(b is buffers[name] for name, b in layer.named_buffers())
    assert layer.training
    for training in (False, True):
        weight = layer.train(training).weight.detach()
        assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, rel=0.02)
    assert layer.parametrizations.weight[0].training


def test_an_orthogonal_parametrization_stays_orthogonal():
    layer = parametrizations.orthogonal(nn.Linear(6, 6))
    initialize(layer, Orthogonal())
    weight = layer.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6), rtol=0, atol=1e-5)


def test_a_parametrization_without_an_inverse_stays_as_it_is_and_the_table_says_so():
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", Doubled())
    before = layer.weight.detach().clone()
    with pytest.warns(UserWarning, match="weight is as the model made it: Doubled cannot be given this weight"):
        row = initialize(layer, "he")["parametrizations.weight.original"]
    assert torch.equal(layer.weight.detach(), before)
    assert row.rule == "as ParametrizedLinear made it: Doubled cannot be given a weight"
