"""The course's networks on its data: rank, spectrum and principal features, beside dense autograd."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch
from tests.linearize.dense import dense
from torch import nn

from steepest.linearize import Linearization
from steepest.tasks import curve

NETS = [(10, 1), (20, 1), (40, 1), (40, 2)]
# By width and depth: the rank that numpy gives the Jacobian of seeds 0, 1, 2.
RANKS = {(10, 1): [20, 21, 21], (20, 1): [39, 41, 34], (40, 1): [57, 61, 63], (40, 2): [77, 84, 83]}


def network(width: int, depth: int, seed: int, dtype: torch.dtype = torch.float64):
    """The course's network, its 200 training points and its 1,000 points between them."""
    task = curve(width, depth)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = task.model()
    return model.to(dtype), task.train[0].to(dtype), task.valid[0].to(dtype)


@functools.cache
def jacobian_of(width: int, depth: int, seed: int) -> torch.Tensor:
    model, x, _ = network(width, depth, seed)
    return dense(model, (x,))


@pytest.mark.parametrize(("width", "depth"), NETS)
def test_the_numerical_rank_at_initialisation_is_that_of_the_dense_jacobian(width, depth):
    found = []
    for seed in range(3):
        model, x, _ = network(width, depth, seed)
        jacobian = jacobian_of(width, depth, seed).numpy()
        svd = Linearization(model, x).svd()
        # The spectrum has a gap at the threshold, so that rounding does not decide.
        clear = svd.singular_values / svd.threshold
        assert not ((clear > 0.03) & (clear < 100)).any()
        assert svd.rank == np.linalg.matrix_rank(jacobian)
        assert svd.complete
        found.append(svd.rank)
    assert found == RANKS[width, depth]


@pytest.mark.parametrize(("width", "depth"), NETS)
def test_the_spectrum_is_that_of_the_dense_jacobian(width, depth):
    model, x, _ = network(width, depth, 0)
    expected = np.linalg.svd(jacobian_of(width, depth, 0).numpy(), compute_uv=False)
    svd = Linearization(model, x).svd()
    np.testing.assert_allclose(svd.singular_values[:20].numpy(), expected[:20], rtol=1e-10, atol=0)
    np.testing.assert_allclose(svd.singular_values.numpy(), expected, rtol=0, atol=1e-13 * expected[0])


@pytest.mark.parametrize(("width", "depth"), NETS)
def test_float32_finds_the_twentieth_value_and_a_rank_no_larger(width, depth):
    model, x, _ = network(width, depth, 0, torch.float32)
    lin = Linearization(model, x)
    svd = lin.svd()
    expected = np.linalg.svd(dense(model, (x,)).double().numpy(), compute_uv=False)
    np.testing.assert_allclose(svd.singular_values[:20].numpy(), expected[:20], rtol=1e-4, atol=0)
    assert svd.rank <= RANKS[width, depth][0]
    assert svd.rank == int((expected > expected[0] * max(lin.shape) * torch.finfo(torch.float32).eps).sum())


@pytest.mark.parametrize(("width", "depth"), NETS)
def test_rescaling_a_hidden_unit_is_a_null_direction(width, depth):
    model, x, _ = network(width, depth, 0)
    lin = Linearization(model, x)
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    directions = []
    for (name, layer), (after, following) in itertools.pairwise(layers):
        for unit in range(width):
            direction = torch.zeros(lin.shape[1], dtype=torch.float64)
            weights = torch.zeros_like(layer.weight)
            weights[unit] = layer.weight.detach()[unit]
            biases = torch.zeros_like(layer.bias)
            biases[unit] = layer.bias.detach()[unit]
            outgoing = torch.zeros_like(following.weight)
            outgoing[:, unit] = -following.weight.detach()[:, unit]
            direction[lin.labels.columns(f"{name}.weight")] = weights.flatten()
            direction[lin.labels.columns(f"{name}.bias")] = biases
            direction[lin.labels.columns(f"{after}.weight")] = outgoing.flatten()
            directions.append(direction)
    moved = lin @ torch.stack(directions, 1)
    assert moved.abs().max() <= 1e-14 * float(lin.svd(1).singular_values)
    assert lin.svd().rank <= lin.shape[1] - width * depth


@pytest.mark.parametrize(("width", "depth"), NETS)
def test_features_and_principal_features_between_the_training_points(width, depth):
    model, x, between = network(width, depth, 1)
    lin = Linearization(model, x)
    expected = dense(model, (between[::20],))
    torch.testing.assert_close(lin.features(between)[::20], expected, rtol=0, atol=1e-12)
    right = torch.linalg.svd(jacobian_of(width, depth, 1), full_matrices=False)[2][:8].T
    found = lin.principal_features(between, 8)
    assert found.shape == (1000, 8)
    signs = (lin.svd(8).right() * right).sum(0).sign()
    torch.testing.assert_close(found[::20], expected @ right * signs, rtol=0, atol=1e-9)


def test_a_feature_of_the_first_layer_has_its_elbow_where_its_unit_has():
    model, x, between = network(10, 1, 0)
    first = model[0]
    elbows = (-first.bias / first.weight[:, 0]).detach()
    assert ((elbows >= 0) & (elbows <= 1)).all()
    features = Linearization(model, x).features(between, "0.bias")
    active = features != 0
    on = first.weight[:, 0] * (between - elbows) > 0
    assert torch.equal(active, on)


def test_a_trained_network_has_a_spectrum_that_autograd_confirms():
    model, x, between = network(20, 1, 0)
    y = curve(20, 1).train[1].double()
    before = Linearization(model, x).svd(20).singular_values
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    lin = Linearization(model, x)
    jacobian = dense(model, (x,)).numpy()
    expected = np.linalg.svd(jacobian, compute_uv=False)
    svd = lin.svd()
    np.testing.assert_allclose(svd.singular_values[:20].numpy(), expected[:20], rtol=1e-10, atol=0)
    assert svd.rank == np.linalg.matrix_rank(jacobian)
    assert (svd.singular_values[:20] - before).abs().max() > 1e-3 * before[0]
    torch.testing.assert_close(lin.features(between)[::20], dense(model, (between[::20],)), rtol=0, atol=1e-12)
