"""Weights behind the hooks of torch.nn.utils.weight_norm, spectral_norm and prune."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from tests.init.models import bits, noise, same_bits
from torch import nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm, spectral_norm

from steepest.init import Constant, initialize


def weight_norm(layer: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch prefers its parametrization
        return nn.utils.weight_norm(layer, name, dim)


LAYERS = [
    lambda: nn.Linear(30, 20),
    lambda: nn.Conv2d(3, 8, 3),
    lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    lambda: nn.Embedding(9, 4, padding_idx=2),
]
IDS = ["linear", "convolution", "transposed", "embedding"]


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("scheme", ["he", "zero", "random", "orthogonal"])
@pytest.mark.parametrize("build", LAYERS, ids=IDS)
def test_a_weight_normed_weight_is_the_one_that_the_plain_layer_gets(build, scheme, dim):
    plain, normed = build(), weight_norm(build(), dim=dim)
    memory = [p.data_ptr() for p in normed.parameters()]
    initialize(plain, scheme)
    table = initialize(normed, scheme)
    expected = plain.weight.detach()
    assert [p.data_ptr() for p in normed.parameters()] == memory
    torch.testing.assert_close(normed.weight.detach(), expected)  # before a forward
    copy.deepcopy(normed)
    for hook in normed._forward_pre_hooks.values():
        hook(normed, ())
    torch.testing.assert_close(normed.weight.detach(), expected)
    remove_weight_norm(normed)
    torch.testing.assert_close(normed.weight.detach(), expected)
    for name in ("weight_g", "weight_v"):
        assert table[name].rule.endswith(", through weight_norm of weight")
        assert math.isnan(table[name].std_asked)


def test_its_gradients_are_those_of_what_it_is_computed_from():
    model = nn.Sequential(weight_norm(nn.Linear(5, 4)), nn.ReLU())
    initialize(model, "he")
    model(noise(3, 5)).sum().backward()
    assert model[0].weight_v.grad is not None
    assert model[0].weight_g.grad.any()


@pytest.mark.parametrize("build", LAYERS[:3], ids=IDS[:3])
def test_a_spectral_norm_divides_the_plain_layers_weight_by_its_norm(build):
    plain, normed = build(), spectral_norm(build(), dim=0)
    initialize(plain, "he")
    table = initialize(normed, "he")
    expected = plain.weight.detach()
    expected = expected / torch.linalg.matrix_norm(expected.flatten(1), 2)
    assert table["weight_orig"].rule.endswith(", through spectral_norm of weight")
    torch.testing.assert_close(normed.weight.detach(), expected, rtol=0.05, atol=1e-3)
    for hook in normed._forward_pre_hooks.values():
        hook(normed, ())
    torch.testing.assert_close(normed.weight.detach(), expected, rtol=0.05, atol=1e-3)
    remove_spectral_norm(normed)
    torch.testing.assert_close(normed.weight.detach(), expected, rtol=0.05, atol=1e-3)


def test_zeros_behind_a_spectral_norm_are_refused_by_a_warning_and_all_stays():
    model = nn.Sequential(spectral_norm(nn.Linear(6, 4)), nn.ReLU())
    before, x = bits(model), noise(2, 6)
    model.eval()
    y = model(x)
    with pytest.warns(
        UserWarning, match=r"0.weight is as the model made it: spectral_norm cannot be given this weight"
    ):
        table = initialize(model, "zero", biases="keep")
    assert table["0.weight_orig"].rule == "as Linear made it: spectral_norm cannot be given a weight"
    assert same_bits(bits(model), before)
    assert torch.equal(model(x), y)


@pytest.mark.parametrize("frozen", ["0.weight_g", "0.weight_v", "0.weight_g by its flag"])
def test_a_weight_of_which_one_part_is_frozen_is_left_as_a_whole(frozen):
    model = nn.Sequential(weight_norm(nn.Linear(6, 4)))
    if frozen.endswith("flag"):
        model[0].weight_g.requires_grad_(False)
    before = bits(model)
    table = initialize(model, "he", frozen=() if frozen.endswith("flag") else [frozen])
    assert table["0.weight_g"].left
    assert table["0.weight_v"].left
    assert all(torch.equal(bits(model)[name], before[name]) for name in ("0.weight_g", "0.weight_v"))


def test_of_a_recurrent_layer_the_named_weight_is_filled_gate_by_gate():
    model = weight_norm(nn.GRU(5, 6), "weight_hh_l0")
    table = initialize(model, Constant(0.5))
    assert bool((model.weight_hh_l0 - 0.5).abs().max() < 1e-6)
    assert bool((model.weight_ih_l0 == 0.5).all())
    assert table["weight_hh_l0_v"].rule == "constant 0.5, per gate, through weight_norm of weight_hh_l0"


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("scheme", ["he", "zero", "orthogonal"])
@pytest.mark.parametrize("build", LAYERS, ids=IDS)
def test_a_pruned_weight_is_that_of_the_plain_layer_behind_its_mask(build, scheme, twice):
    plain, pruned = build(), build()
    prune.l1_unstructured(pruned, "weight", 0.5)
    if twice:
        prune.l1_unstructured(pruned, "weight", 0.25)
    mask = pruned.weight_mask.clone()
    initialize(plain, scheme)
    table = initialize(pruned, scheme)
    expected = plain.weight.detach() * mask
    assert torch.equal(pruned.weight_mask, mask)
    torch.testing.assert_close(pruned.weight.detach(), expected)  # before a forward
    for hook in pruned._forward_pre_hooks.values():
        hook(pruned, ())
    torch.testing.assert_close(pruned.weight.detach(), expected)
    assert table["weight_orig"].rule.endswith(", through pruning of weight")
