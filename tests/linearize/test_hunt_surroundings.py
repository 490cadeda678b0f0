"""Hunting for silently wrong answers: what stands around the call, inputs of every kind, precision."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from tests.linearize.dense import assert_right, dense, random, relative
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn
from torch.nn import functional as F

from steepest.errors import SteepestError
from steepest.linearize import Linearization


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# What stands around the call


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(
    "around", ["no_grad", "inference_mode", "autocast", "default_dtype", "deterministic", "anomaly"]
)
def test_what_stands_around_the_call_does_not_matter(around):
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2))
    x = random(4, 2, 4).float()
    expected = dense(model, (x,))
    kernel = expected @ expected.T
    with contexts(around):
        lin = Linearization(model, x.clone())
        assert relative(lin.features(), expected) < 1e-6
        assert relative(lin.features(x.clone()), expected) < 1e-6
        assert relative(lin.kernel(x.clone(), x), kernel) < 1e-5
        assert lin.features().dtype == torch.float32
    assert relative(lin.features(x.flip(0)), dense(model, (x.flip(0),))) < 1e-6


def contexts(around):
    match around:
        case "autocast":
            return torch.autocast("cpu", torch.bfloat16)
        case "anomaly":
            return torch.autograd.detect_anomaly(check_nan=False)
        case "deterministic":
            return switched(torch.use_deterministic_algorithms, True, False)
        case "default_dtype":
            return switched(torch.set_default_dtype, torch.float64, torch.float32)
        case _:
            return getattr(torch, around)()


@contextlib.contextmanager
def switched(switch, during, after):
    switch(during)
    try:
        yield
    finally:
        switch(after)


def test_autocast_inside_of_the_model_is_part_of_it():
    def run(s, x):
        with torch.autocast("cpu", torch.bfloat16):
            h = s.a(x).tanh()
        return s.b(h.float())

    model = Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    x = random(4, 3).float()
    lin = Linearization(model, x)
    assert relative(lin.features(), dense(model, (x,))) < 1e-2
    assert relative(lin.features(x.flip(0)), dense(model, (x.flip(0),))) < 1e-2


def test_a_compiled_model_has_the_names_of_the_module_inside():
    inside, x = mlp(nn.Tanh).double(), random(4, 3)
    model = torch.compile(inside, backend="eager")
    lin = Linearization(model, x)
    assert list(lin.paths) == [name for name, _ in inside.named_parameters()]
    assert relative(lin.features(), dense(model, (x,))) < 1e-10
    assert relative(lin.features(x[:2]), dense(model, (x[:2],))) < 1e-10


def test_a_part_in_float32_is_as_right_as_float32():
    def run(s, x):
        return s.c(F.linear(s.a(x).float(), s.w.float()).tanh().double() * s.g)

    model = Net(run, a=nn.Linear(3, 4), w=parameter(4, 4), g=parameter(4), c=nn.Linear(4, 2)).double()
    x = random(4, 3)
    lin = Linearization(model, x)
    for inputs in (x, random(5, 3)):
        assert relative(lin.features(inputs), dense(model, (inputs,))) < 1e-6


# Inputs


@pytest.mark.parametrize("kind", ["channels_last", "transposed", "expanded", "strided", "offset", "flipped"])
def test_inputs_of_any_layout_in_memory(kind):
    x = random(4, 2, 5, 4)
    match kind:
        case "channels_last":
            x = x.to(memory_format=torch.channels_last)
        case "transposed":
            x = random(4, 2, 4, 5).mT
        case "expanded":
            x = random(1, 2, 5, 4).expand(4, -1, -1, -1)
        case "strided":
            x = random(8, 2, 10, 4)[::2, :, ::2]
        case "offset":
            x = random(7, 3, 5, 4)[3:, 1:]
        case _:
            x = torch._neg_view(random(4, 2, 5, 4))
    model = nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(1, 0)),
        nn.ReLU(),
        nn.Conv2d(3, 2, 2, bias=False),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    assert_right(model, x, x.clone()[:3], x.contiguous())


def test_a_model_in_channels_last():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.GroupNorm(3, 3), nn.Conv2d(3, 2, 2), nn.Flatten()).to(
        memory_format=torch.channels_last
    )
    assert_right(model, random(4, 2, 4, 4).to(memory_format=torch.channels_last), random(3, 2, 4, 4))


def test_inputs_that_require_gradients():
    x = random(4, 3).requires_grad_()
    lin = Linearization(model := mlp(nn.Tanh).double(), x)
    assert not lin.features().requires_grad
    assert not lin.kernel(x, x).requires_grad
    assert not lin.predictions(x).requires_grad
    assert relative(lin.features(x), dense(model, (x.detach(),))) < 1e-10
    assert x.grad is None


def test_inputs_made_in_inference_mode():
    model = mlp(nn.Tanh).double()
    with torch.inference_mode():
        x = random(4, 3)
    lin = Linearization(model, x)
    assert relative(lin.features(x), dense(model, (x.clone(),))) < 1e-10


def test_inputs_that_are_broadcast_and_whole_numbers():
    model = Net(lambda s, x, y: s.a(x[:, None] * y.double()).tanh().sum(1), a=nn.Linear(3, 2))
    assert_right(model, (random(4, 3), torch.arange(20).view(4, 5, 1)), (random(3, 3), torch.arange(15).view(3, 5, 1)))


@pytest.mark.parametrize("make", [lambda x: x.to_sparse(), lambda x: torch.nested.nested_tensor(list(x))])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_sparse_and_nested_inputs_are_refused(make):
    x = make(random(4, 3))
    model = Net(
        lambda s, x: (x.to_dense() if x.is_sparse else torch.stack(x.unbind())) @ s.w, w=parameter(3, 2)
    ).double()
    with pytest.raises(SteepestError, match="tensor whose first dimension counts the examples"):
        Linearization(model, x)


def test_complex_inputs():
    model = Net(
        lambda s, x: s.a(torch.view_as_real(x).flatten(1)) + (x * s.g).abs().sum(1, keepdim=True),
        a=nn.Linear(6, 2),
        g=parameter(3),
    )
    assert_right(
        model, torch.complex(random(4, 3), random(4, 3, seed=1)), torch.complex(random(5, 3), random(5, 3, seed=1))
    )


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = mlp(nn.Tanh)
    exact = dense(copy.deepcopy(model).double(), (random(6, 3).to(dtype).double(),))
    lin = Linearization(model.to(dtype), random(6, 3).to(dtype))
    assert lin.features().dtype == dtype
    assert relative(lin.features().double(), exact) < 20 * torch.finfo(dtype).eps
    assert relative(lin.kernel(dtype=torch.float64), exact @ exact.T) < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_weak_coupling_in_half_precision(dtype):
    model = Net(lambda s, x: s.b((h := s.a(x)) - 0.15 * h.mean(0)).tanh(), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    x = random(6, 3).to(dtype)
    exact = dense(copy.deepcopy(model).double(), (x.double(),))
    lin = Linearization(model.to(dtype), x)
    assert relative(lin.features().double(), exact) < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("n", range(2, 9))
def test_as_many_positions_as_examples_in_half_precision(n):
    model = Net(lambda s, x: s.b(s.a(x.transpose(0, 1)).tanh()).square().sum(0), a=nn.Linear(2, 3), b=nn.Linear(3, 2))
    x = random(n, n, 2).bfloat16()
    exact = dense(copy.deepcopy(model).double(), (x.double(),))
    lin = Linearization(model.bfloat16(), x)
    assert relative(lin.features().double(), exact) < 0.1


@pytest.mark.parametrize("large", [False, True])
def test_parameters_of_several_precisions(large, monkeypatch):
    if large:
        monkeypatch.setattr("steepest.linearize._jacobian._SMALL", 0)

    def run(s, x):
        return s.c(s.n(s.b(s.a(x).to(torch.bfloat16)).float()).to(torch.float64) * s.g)

    model = Net(
        run,
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 4).bfloat16(),
        n=nn.LayerNorm(4),
        c=nn.Linear(4, 2).double(),
        g=parameter(4),
    )
    x = random(4, 3).float()
    precision = 2 * torch.finfo(torch.bfloat16).eps  # of the reference too
    lin, expected = Linearization(model, x), dense(model, (x,))
    assert relative(lin.features(), expected) < precision
    for name in lin.paths:
        columns = lin.labels.columns(name)
        assert relative(lin.features(parameters=name), expected[:, columns]) < precision
    assert relative(lin.kernel(), expected @ expected.T) < precision
    assert relative(lin.kernel(x.clone(), x[:3]), expected @ dense(model, (x[:3],)).T) < precision
    v, u = (random(size) for size in reversed(expected.shape))
    assert relative(lin.matvec(v), expected @ v) < precision
    assert relative(lin.rmatvec(u), expected.T @ u) < precision


def test_an_output_that_is_far_above_another_hides_nothing_of_it():
    model = Net(
        lambda s, x: torch.cat([1e12 * s.a(x), s.b(x) - s.b(x).mean(0)], 1), a=nn.Linear(3, 1), b=nn.Linear(3, 1)
    ).double()
    x = random(4, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x)
    for name in lin.paths:
        columns = lin.labels.columns(name)
        assert relative(lin.features()[:, columns], expected[:, columns]) < 1e-10


def test_an_output_far_above_another_with_a_shared_layer_hides_nothing_of_it():
    def run(s, x):
        h = s.a(x)
        return torch.stack([1e12 * h[:, 0], (h - h.mean(0)).square().sum(1)], 1)

    model = Net(run, a=nn.Linear(3, 2)).double()
    x = random(4, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x)
    for c in range(2):
        assert relative(lin.features()[c::2], expected[c::2]) < 1e-8


def test_a_parameter_far_below_the_others():
    def run(s, x):
        order = x[:, 0].argsort()
        return 1e7 * s.a(x) + 1e-7 * s.b(x[order])[order.argsort()]

    model = Net(run, a=nn.Linear(3, 2), b=nn.Linear(3, 2)).double()
    x = random(5, 3)
    expected = dense(model, (x,))
    lin = Linearization(model, x[x[:, 0].argsort()])
    columns = lin.labels.columns("b.weight")
    assert relative(lin.features(x, "b.weight"), expected[:, columns]) < 1e-8
