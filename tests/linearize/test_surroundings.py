"""What stands around the call does not matter; what stands inside of the model does."""

from __future__ import annotations

import contextlib

import pytest
import torch
from tests.linearize.dense import dense, random, relative
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn
from torch.nn import functional as F

from steepest.linearize import Linearization


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
