"""Every architecture against the Jacobian by definition."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.linearize.architectures import CASES, dense, draw, make
from torch import nn

from steepest.linearize import Linearization

# A parameter with an entry for each example fits only batches of that size.
OTHER_BATCHES = {
    "reversed": lambda n: torch.arange(n).flip(0),
    "one": lambda n: torch.tensor([n - 1]),
    "two": lambda _: torch.tensor([1, 0]),
    "twice": lambda n: torch.arange(n).repeat(2),
}


def relative(found, expected):
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


@pytest.fixture(params=CASES)
def made(request):
    return request.param, *make(request.param)


def test_features_kernel_trace_and_products_are_those_of_the_dense_jacobian(made, rng_untouched):
    _, model, inputs = made
    jacobian = dense(model, inputs)
    with rng_untouched():
        lin = Linearization(model, inputs)
        n, c = lin.examples, lin.outputs
        kernel = jacobian @ jacobian.T
        assert relative(lin.features(), jacobian) < 1e-10
        assert relative(lin.kernel(), kernel) < 1e-10
        trace = kernel.view(n, c, n, c).diagonal(dim1=1, dim2=3).sum(-1)
        assert relative(lin.kernel(trace=True), trace) < 1e-10
    v, u = draw(jacobian.shape[1]), draw(jacobian.shape[0])
    assert relative(lin @ v, jacobian @ v) < 1e-10
    assert relative(lin.adjoint() @ u, jacobian.T @ u) < 1e-10


@pytest.mark.parametrize("batch", OTHER_BATCHES)
def test_features_at_other_inputs_are_right_whatever_their_number(made, batch):
    name, model, inputs = made
    if name == "per_example_param" and batch != "reversed":
        pytest.skip("has a parameter for each of its examples")
    lin = Linearization(model, inputs)
    some = OTHER_BATCHES[batch](len(inputs[0]))
    others = tuple(t[some] for t in inputs)
    expected = dense(model, others)
    assert relative(lin.features(others), expected) < 1e-10
    cross = expected @ dense(model, inputs).T
    assert relative(lin.kernel(others, inputs), cross) < 1e-10


def test_in_chunks_of_one_example_everything_is_the_same(made):
    _, model, inputs = made
    jacobian = dense(model, inputs)
    lin = Linearization(model, inputs)
    lin._jacobian._per_example, lin._jacobian._kept = 1 << 40, None
    assert relative(lin.features(), jacobian) < 1e-10
    assert relative(lin.kernel(), jacobian @ jacobian.T) < 1e-10
    u = draw(jacobian.shape[0])
    assert relative(lin.rmatvec(u), jacobian.T @ u) < 1e-10


def test_every_parameter_has_a_path_and_a_zero_one_has_zero_columns(made):
    _, model, inputs = made
    lin = Linearization(model, inputs)
    jacobian = dense(model, inputs)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert list(lin.paths) == names
    for name, path in lin.paths.items():
        block = jacobian[:, lin.labels.columns(name)]
        assert relative(lin.features(parameters=name), block) < 1e-10
        if path == "zero":
            assert not block.any()
            assert name in repr(lin)


def test_the_users_model_is_left_as_it_was(made):
    _, model, inputs = made
    before = copy.deepcopy(model.state_dict())
    Linearization(model, inputs).kernel()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["reused", "conv_misc", "negpos", "cross", "tied"])
def test_float32_is_right_to_1e_4(name):
    expected = dense(*make(name))
    lin = Linearization(*make(name, torch.float32))
    assert lin.features().dtype == torch.float32
    assert relative(lin.features().double(), expected) < 1e-4
    assert relative(lin.kernel().double(), expected @ expected.T) < 1e-4


RULES = {
    "reused": "linear",
    "flattened_inner": "linear",
    "seqfirst_square": "linear",
    "cross": "linear",
    "frames": "convolution",
    "norm": "normalization",
    "negpos": "embedding",
    "bare": "elementwise",
    "lstm": "backward",
    "bilinear": "vmap",
}


@pytest.mark.parametrize("name", RULES)
def test_what_has_a_rule_is_not_left_to_the_general_path(name):
    assert RULES[name] in set(Linearization(*make(name)).paths.values())


def test_a_branch_that_was_not_taken_before_is_seen_when_it_is():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.slope = nn.Linear(3, 2), nn.Parameter(torch.tensor([0.3]))

        def forward(self, x):
            return nn.functional.prelu(self.a(x), self.slope) if x.sum() > 0 else self.a(x)

    model = Branching().double()
    x = -draw(4, 3).abs()
    lin = Linearization(model, x)
    assert lin.paths["slope"] == "zero"
    assert relative(lin.features(-x), dense(model, (-x,))) < 1e-10


def test_behind_dead_units_nothing_is_assumed_for_other_inputs():
    """On the first inputs no gradient arrives, so that every layout fits; with n = T the choice matters later."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x):
            hidden = self.a(x.transpose(0, 1)).transpose(0, 1)
            return torch.relu(hidden * x.sum((1, 2), keepdim=True)).sum(1) * (x.sum((1, 2)) > 0)[:, None]

    model = Gated().double()
    x = draw(5, 5, 4)
    dead, alive = x - 10, x + 10
    lin = Linearization(model, dead)
    assert not lin.features().any()
    assert relative(lin.features(alive), dense(model, (alive,))) < 1e-10


@pytest.mark.parametrize("around", ["no_grad", "inference_mode", "autocast"])
def test_what_stands_around_the_call_does_not_matter(around):
    model, (x,) = make("conv_misc", torch.float32)
    expected = Linearization(model, x).features()
    context = torch.autocast("cpu", torch.bfloat16) if around == "autocast" else getattr(torch, around)()
    with context:
        found = Linearization(model, x.clone()).features()
    assert relative(found, expected) < 1e-6


def test_training_the_model_on_changes_nothing():
    model, (x,) = make("norm")
    lin = Linearization(model, x)
    expected = dense(model, (x,))
    with torch.no_grad():
        for p in model.parameters():
            p.data += 1
    assert relative(lin.features(x.clone()), expected) < 1e-10


@pytest.mark.parametrize("check", [True, False])
def test_a_layer_of_sequences_may_be_changed_in_place(check):
    """Its output is a view, and what is done to a view in place rewrites its history."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)).double()
    x = draw(5, 6, 3)
    lin = Linearization(model, x, check=check)
    assert set(lin.paths.values()) == {"linear"}
    assert relative(lin.features(), dense(model, (x,))) < 1e-10
