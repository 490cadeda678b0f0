"""Every architecture of the zoo against one plain backward pass a row."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from tests.linearize import zoo_attention, zoo_extremes, zoo_layers, zoo_products, zoo_programs, zoo_weights
from tests.linearize.dense import by_differences, dense, evaluate, random, relative, trace, trainable
from tests.linearize.zoo import ZOO, batch, build
from torch import Tensor

from steepest.linearize import Linearization

PARTS = (zoo_weights, zoo_products, zoo_layers, zoo_attention, zoo_programs, zoo_extremes)
"""They have registered theirs."""

MANY = 18
"""More than the examples on which the structure of a network is found."""


REPRESENTATIVES = frozenset(
    (
        "a_gate_that_is_zero",
        "a_matrix_and_its_transpose",
        "a_parameter_for_each_example",
        "a_weight_as_a_matrix_and_as_a_kernel",
        "attention_by_hand_time_first",
        "batch_mean_subtracted",
        "batch_norm",
        "batch_norm_without_statistics",
        "checkpointed",
        "class_token",
        "conv2d_grouped_and_dilated",
        "conv2d_same_circular",
        "cross_attention",
        "dead_units",
        "einsum",
        "embedding_tied_to_the_head",
        "encoder_time_first_as_many_as_examples",
        "energy_and_forces",
        "four_outputs_of_shape_2_2",
        "frames_merged_before_the_batch",
        "frames_merged_into_the_batch",
        "group_norm",
        "in_place_operations",
        "layer_norm_of_two_axes",
        "linear_on_a_batch_between_two_axes",
        "lstm_of_two_layers_both_ways",
        "mixture_of_experts",
        "one_bias_of_two_layers",
        "one_output_of_shape_n",
        "positions_as_an_embedding",
        "positions_scaled_in_place",
        "recurrent_loop",
        "rms_norm",
        "scale_and_shift",
        "scales_far_apart",
        "several_inputs_of_several_types",
        "slices",
        "tied_embedding_with_padding",
        "toeplitz",
        "transposed_convolution",
        "tuple_of_outputs",
    )
)
"""One of each kind: every rule, every layout, the general path by either way, and what is coupled."""


IN_CHUNKS = frozenset(
    (
        "a_weight_as_a_matrix_and_as_a_kernel",
        "attention_by_hand_time_first",
        "batch_mean_subtracted",
        "batch_norm",
        "class_token",
        "conv2d_grouped_and_dilated",
        "einsum",
        "frames_merged_before_the_batch",
        "mixture_of_experts",
        "one_output_of_shape_n",
        "positions_as_an_embedding",
        "several_inputs_of_several_types",
        "slices",
        "tied_embedding_with_padding",
    )
)
"""Fewer, as evaluating a batch in many ways and parts takes long."""


def of(names, fast=REPRESENTATIVES):
    """Those that are not among the fast ones, or take seconds themselves, are slow."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name, fast)) for name in names])


def marks_of(name, fast):
    slow = [pytest.mark.slow] if ZOO[name].slow or name not in fast else []
    warns = [pytest.mark.filterwarnings(f"ignore:{ZOO[name].warns}")] if ZOO[name].warns else []
    return slow + warns


every = of(ZOO, fast=frozenset(ZOO))


@functools.cache
def reference(name: str, n: int | None = None, seed: int = 2) -> Tensor:
    return dense(build(name), batch(name, n, seed))


@functools.cache
def linearized(name: str) -> Linearization:
    return Linearization(build(name), batch(name))


def test_there_are_many_and_all_are_small():
    assert all(part.__doc__ for part in PARTS)
    assert len(ZOO) >= 150
    assert set(ZOO) >= REPRESENTATIVES
    assert all(sum(p.numel() for p in build(name).parameters()) < 3000 for name in ZOO if not ZOO[name].slow)


SMOOTH = [
    "tanh",
    "recurrent_loop",
    "a_matrix_and_its_transpose",
    "embedding_tied_to_the_head",
    "fused_causal_attention",
    "conv2d_grouped_and_dilated",
    "layer_norm_of_two_axes",
    "batch_mean_subtracted",
]


@pytest.mark.parametrize("name", SMOOTH)
def test_the_reference_itself_is_what_differences_show(name):
    model, x = build(name), batch(name)
    assert relative(dense(model, x), by_differences(model, x)) < 1e-7


@every
def test_features_are_the_dense_jacobian_and_nothing_of_the_user_is_touched(name, rng_untouched):
    model, x = build(name), batch(name)
    expected = reference(name)
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    given = [t.clone() for t in x]
    with rng_untouched():
        lin = Linearization(model, x)
        features = lin.features()
        lin.kernel()
    assert relative(features, expected) < 1e-10
    for parameter in trainable(model):
        columns = lin.labels.columns(parameter)
        error = (features[:, columns] - expected[:, columns]).norm()
        assert error <= 1e-10 * expected[:, columns].norm() + 1e-14 * expected.norm(), parameter
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None or bool((p.grad == 1).all()) for p in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(given, x, strict=True))


@every
def test_columns_labels_and_paths_account_for_every_parameter(name):
    lin, expected = linearized(name), reference(name)
    parameters = trainable(build(name))
    assert lin.shape == tuple(expected.shape)
    assert list(lin.paths) == list(parameters)
    assert len(lin.labels) == sum(p.numel() for p in parameters.values())
    start = 0
    for parameter, p in parameters.items():
        columns = lin.labels.columns(parameter)
        assert columns == slice(start, start + p.numel())
        start = columns.stop
        last = lin.labels[start - 1]
        assert (last.parameter, last.index, last.layer) == (parameter, p.numel() - 1, parameter.rpartition(".")[0])
        block = lin.features(parameters=parameter)
        assert torch.equal(block, lin.features()[:, columns])
        if lin.paths[parameter] == "zero":
            assert not expected[:, columns].any()
            assert parameter in repr(lin)
        if expected[:, columns].any():
            assert lin.paths[parameter] != "zero"


@every
def test_kernel_trace_and_products_are_those_of_the_dense_jacobian(name):
    lin, expected = linearized(name), reference(name)
    kernel = expected @ expected.T
    assert relative(lin.kernel(), kernel) < 1e-10
    assert relative(lin.kernel(trace=True), trace(kernel, lin.outputs)) < 1e-10
    u, v = (random(size, 2, seed=3) for size in expected.shape)
    assert relative(lin @ v, expected @ v) < 1e-10
    assert relative(lin.matvec(v[:, 0]), expected @ v[:, 0]) < 1e-10
    assert relative(lin.adjoint() @ u, expected.T @ u) < 1e-10
    assert relative(lin.rmatvec(u[:, 0]), expected.T @ u[:, 0]) < 1e-10


@of(ZOO)
def test_predictions_are_the_models_outputs(name):
    lin, x = linearized(name), batch(name, seed=4)
    assert relative(lin.predictions(), evaluate(build(name), batch(name)).detach()) < 1e-12
    assert relative(lin.predictions(x), evaluate(build(name), x).detach()) < 1e-12


@of(ZOO)
def test_at_other_inputs_of_any_number_everything_is_right_too(name):
    lin, first = linearized(name), reference(name)
    for n in (ZOO[name].n, *ZOO[name].others):
        x, second = batch(name, n, 5), reference(name, n, 5)
        assert relative(lin.features(x), second) < 1e-10, n
        cross = second @ first.T
        assert relative(lin.kernel(x, batch(name)), cross) < 1e-10, n
        assert relative(lin.kernel(None, x), cross.T) < 1e-10, n
        assert relative(lin.kernel(x, None), second @ second.T) < 1e-10, n
        assert relative(lin.kernel(x, batch(name), trace=True), trace(cross, lin.outputs)) < 1e-10, n


@of(name for name in ZOO if 1 in ZOO[name].others)
def test_found_on_one_example_it_is_right_for_more(name):
    lin = Linearization(build(name), batch(name, 1))
    assert relative(lin.features(), reference(name, 1)) < 1e-10
    x, expected = batch(name, seed=5), reference(name, seed=5)
    assert relative(lin.features(x), expected) < 1e-10
    assert relative(lin.kernel(x), expected @ expected.T) < 1e-10


@of((name for name in ZOO if ZOO[name].others), IN_CHUNKS)
def test_in_chunks_of_examples_everything_is_the_same(name):
    model, x, expected = build(name), batch(name, MANY), reference(name, MANY)
    kernel = expected @ expected.T
    one = Linearization(model, x)._jacobian._per_example
    lin = Linearization(model, x, max_bytes=max(8 * kernel.numel(), 4 * 7 * one))
    sizes = [some.stop - some.start for some, _ in lin._jacobian.chunks()]
    assert sum(sizes) == MANY
    assert (len(sizes) > 1) != lin._jacobian.network.coupled
    assert relative(lin.kernel(), kernel) < 1e-10
    assert relative(lin.kernel(trace=True), trace(kernel, lin.outputs)) < 1e-10
    fresh, second = batch(name, 5, 6), reference(name, 5, 6)
    assert relative(lin.kernel(fresh, x), second @ expected.T) < 1e-10
    u, v = (random(size, seed=3) for size in expected.shape)
    assert relative(lin.matvec(v), expected @ v) < 1e-10
    assert relative(lin.rmatvec(u), expected.T @ u) < 1e-10
    tight = Linearization(model, x, max_bytes=8 * expected.numel())
    assert relative(tight.features(), expected) < 1e-10


@of(name for name in ZOO if ZOO[name].others)
def test_large_matrices_are_filled_in_place_and_tile_by_tile(name, monkeypatch):
    monkeypatch.setattr("steepest.linearize._jacobian.chunks._SMALL", 0)
    monkeypatch.setattr("steepest.linearize._jacobian.gram._TILE", 64)
    expected, second = reference(name, MANY), reference(name, 5, 6)
    lin = Linearization(build(name), batch(name, MANY))
    assert relative(lin.features(), expected) < 1e-10
    assert relative(lin.kernel(), expected @ expected.T) < 1e-10
    assert relative(lin.kernel(None, batch(name, 5, 6)), expected @ second.T) < 1e-10


@of(name for name in ZOO if ZOO[name].single)
def test_float32_is_right_to_1e_4(name):
    model, x = build(name, torch.float32), batch(name, dtype=torch.float32)
    lin = Linearization(model, x)
    expected = dense(copy.deepcopy(model).double(), tuple(t.double() if t.is_floating_point() else t for t in x))
    assert lin.features().dtype == torch.float32
    assert relative(lin.features().double(), expected) < 1e-4
    assert relative(lin.kernel().double(), expected @ expected.T) < 1e-4
    assert relative(lin.kernel(dtype=torch.float64), expected @ expected.T) < 1e-4


PATHS = {
    "reused": {"linear"},
    "linear_on_flattened_time": {"linear"},
    "encoder_time_first_as_many_as_examples": {"linear", "normalization"},
    "cross_attention": {"linear"},
    "frames_merged_into_the_batch": {"linear", "convolution"},
    "frames_merged_before_the_batch": {"linear", "convolution"},
    "batch_norm": {"linear", "convolution", "normalization"},
    "positions_as_an_embedding": {"embedding", "elementwise", "linear"},
    "scale_and_shift": {"elementwise"},
    "lstm_of_two_layers_both_ways": {"backward"},
    "bilinear": {"vmap"},
}


@pytest.mark.parametrize("name", PATHS)
def test_what_has_a_rule_is_not_left_to_the_general_path(name):
    assert set(linearized(name).paths.values()) == PATHS[name]
