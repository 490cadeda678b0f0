"""`dtype=`: what a copy of the model, converted by hand, and converted inputs give, and nothing of it by hand."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from tests.linearize import zoo_attention, zoo_extremes, zoo_layers, zoo_products, zoo_programs, zoo_weights
from tests.linearize.dense import dense, random, relative
from tests.linearize.test_check import wrong_by
from tests.linearize.zoo import ZOO, Net, batch, build, mlp
from torch import nn

from steepest.errors import InvalidArgument
from steepest.linearize import (
    FeaturesDisplay,
    FunctionDisplay,
    Linearization,
    LinearizationMismatch,
    PrincipalFeaturesDisplay,
    compare_linearizations,
)
from steepest.linearize._trace.rules import linear as _linear

PARTS = (zoo_weights, zoo_products, zoo_layers, zoo_attention, zoo_programs, zoo_extremes)
"""They have registered theirs."""

REPRESENTATIVES = frozenset(
    (
        "batch_mean_subtracted",
        "batch_norm",
        "checkpointed",
        "conv2d_grouped_and_dilated",
        "embedding_tied_to_the_head",
        "encoder_time_first_as_many_as_examples",
        "lstm_of_two_layers_both_ways",
        "several_inputs_of_several_types",
        "tuple_of_outputs",
    )
)
"""Rules, buffers, ties, the general path, what is coupled, integers among the inputs, several outputs."""

single = functools.partial(random, seed=2)


def marks_of(name):
    slow = [pytest.mark.slow] if ZOO[name].slow or name not in REPRESENTATIVES else []
    warns = [pytest.mark.filterwarnings(f"ignore:{ZOO[name].warns}")] if ZOO[name].warns else []
    return slow + warns


def converted(x, dtype):
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in x)


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name)) for name in ZOO])
def test_float64_is_a_converted_copy_and_converted_inputs_wherever_they_come_in(name):
    model = build(name, torch.float32)
    own, others = (batch(name, seed=seed, dtype=torch.float32) for seed in (2, 3))
    state = copy.deepcopy(model.state_dict())
    by_hand = copy.deepcopy(model).double()
    expected = Linearization(by_hand, converted(own, torch.float64))
    fresh = converted(others, torch.float64)
    lin = Linearization(model, own, dtype=torch.float64)
    assert lin.dtype == expected.dtype
    assert all(torch.equal(a, b) for a, b in zip(lin.inputs(), expected.inputs(), strict=True))
    assert lin.paths == expected.paths
    for found, same in (
        (lin.features(), expected.features()),
        (lin.features(others), expected.features(fresh)),
        (lin.predictions(others), expected.predictions(fresh)),
        (lin.kernel(others, own), expected.kernel(fresh, converted(own, torch.float64))),
        (lin.kernel(None, others, trace=True), expected.kernel(None, fresh, trace=True)),
    ):
        torch.testing.assert_close(found, same, rtol=1e-12, atol=1e-12 * float(same.abs().max()))
    assert relative(lin.features(), dense(by_hand, converted(own, torch.float64))) < 1e-9
    for key, value in model.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key])


def test_spectral_methods_take_inputs_of_any_precision():
    model, x, others = mlp(nn.Tanh), single(6, 3).float(), single(4, 3, seed=3).float()
    by_hand = Linearization(copy.deepcopy(model).double(), x.double())
    lin = Linearization(model, x, dtype=torch.float64)
    y = random(12)
    torch.testing.assert_close(lin.svd().singular_values, by_hand.svd().singular_values)
    assert lin.svd().threshold == by_hand.svd().threshold  # that of float64
    torch.testing.assert_close(lin.principal_features(others, 3), by_hand.principal_features(others.double(), 3))
    found, expected = (
        each.trajectory([1.0], y=y, x=at, k=3).predictions for each, at in ((lin, others), (by_hand, others.double()))
    )
    torch.testing.assert_close(found, expected)
    change = compare_linearizations(lin, by_hand)
    assert change.kernel_change < 1e-12
    assert change.parameter_change == 0


def test_displays_take_inputs_of_any_precision():
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    x, at = torch.linspace(-1, 1, 5)[:, None], torch.linspace(-1, 1, 7)
    lin = Linearization(model, x, dtype=torch.float64)
    exact = Linearization(copy.deepcopy(model).double(), x.double())
    for display in (
        lambda each, at: FeaturesDisplay.of(each, at).curves["0.weight"],
        lambda each, at: PrincipalFeaturesDisplay.of(each, at).features,
        lambda each, at: FunctionDisplay.of(each, at, x, 1.0).linearized["linearised"],
    ):
        assert display(lin, at) == pytest.approx(display(exact, at.double()), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("own", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_linearized_as_precisely_as_asked_for(own):
    model, x = mlp(nn.Tanh).to(own), random(6, 3).to(own)
    exact = dense(copy.deepcopy(model).double(), (x.double(),))
    errors = [
        relative(Linearization(model, x, dtype=dtype).features().double(), exact)
        for dtype in (None, torch.float32, torch.float64)
    ]
    assert errors[0] > 1e-5
    assert errors[1] < 1e-6
    assert errors[2] < 1e-14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_lower_precision_is_that_of_a_converted_copy(dtype):
    model, x = mlp(nn.Tanh).double(), random(6, 3)
    lin = Linearization(model, x, dtype=dtype)
    by_hand = Linearization(copy.deepcopy(model).to(dtype), x.to(dtype))
    assert lin.dtype == dtype
    assert torch.equal(lin.features(), by_hand.features())
    assert torch.equal(lin.predictions(random(3, 3)), by_hand.predictions(random(3, 3).to(dtype)))


def test_none_keeps_the_precision_of_model_and_inputs():
    lin = Linearization(mlp(nn.Tanh), single(6, 3).float(), dtype=None)
    assert lin.dtype == torch.float32
    with pytest.raises(InvalidArgument, match="must take x, examples of shapes"):
        lin.features(single(6, 3))


def test_integer_and_complex_numbers_stay_as_they_are():
    def run(s, tokens, x):
        assert tokens.dtype == torch.int64
        assert s.phase.dtype == torch.complex64
        return s.table(tokens).sum(1) + s.a(x) * s.phase.real

    model = Net(run, table=nn.Embedding(5, 2), a=nn.Linear(3, 2))
    model.register_buffer("phase", torch.tensor([1 + 2j, 3j]))
    lin = Linearization(model, (torch.arange(4).view(2, 2), single(2, 3).float()), dtype=torch.float64)
    assert lin.dtype == torch.float64
    assert lin.predictions((torch.arange(2).view(1, 2), single(1, 3))).dtype == torch.float64


def test_what_the_models_own_code_casts_stays_cast():
    lin = Linearization(Net(lambda s, x: s.a(x).float(), a=nn.Linear(3, 2)), single(4, 3).float(), dtype=torch.float64)
    assert lin.dtype == torch.float32
    assert all(p.dtype == torch.float64 for p in lin.parameters().values())


def test_inputs_and_calls_in_inference_mode():
    model, x = mlp(nn.Tanh), single(4, 3).float()
    expected = Linearization(model, x, dtype=torch.float64).features(x[:2])
    with torch.inference_mode():
        inside = x.clone()
        lin = Linearization(model, inside, dtype=torch.float64)
        assert torch.equal(lin.features(inside[:2]), expected)
    assert torch.equal(lin.features(), Linearization(model, x, dtype=torch.float64).features())


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.bool, torch.complex128, torch.float8_e4m3fn, "float64", 64, float]
)
def test_what_is_no_precision_of_real_numbers_is_refused(dtype):
    with pytest.raises(InvalidArgument, match=r"dtype must be one of torch\.float16, .*, torch\.float64 \(got"):
        Linearization(mlp(nn.Tanh), single(4, 3).float(), dtype=dtype)


def test_a_model_whose_code_asks_for_another_precision_is_refused_in_one_line():
    table = torch.randn(3, 3)
    model = Net(lambda s, x: s.a(x @ table), a=nn.Linear(3, 2))
    x = single(4, 3).float()
    assert Linearization(model, x).dtype == torch.float32
    with pytest.raises(InvalidArgument, match=r"in torch\.float64 \(got 'RuntimeError: .*leave dtype out") as refused:
        Linearization(model, x, dtype=torch.float64)
    assert "\n" not in str(refused.value)


def test_a_model_that_forbids_the_conversion_is_refused_in_one_line():
    class Fixed(nn.Linear):
        def double(self):
            raise ValueError("quantized\nfor good")

    with pytest.raises(InvalidArgument, match=r"allow its conversion to torch\.float64 \(got 'ValueError: quantized'"):
        Linearization(Fixed(3, 2), single(4, 3).float(), dtype=torch.float64)


@pytest.mark.parametrize("weight", ["0.weight", "4.weight"])
def test_the_check_compares_in_the_precision_asked_for(monkeypatch, weight):
    monkeypatch.setattr(_linear, "_weight_of", wrong_by(1 + 1e-6))
    model, x = mlp(nn.Tanh), single(4, 3).float()
    columns = Linearization(model, x).features(parameters=weight)  # an error within the rounding of float32
    with pytest.raises(LinearizationMismatch, match=r"\.weight \(linear\) must agree"):
        Linearization(model, x, dtype=torch.float64)
    unchecked = Linearization(model, x, dtype=torch.float64, check=False).features(parameters=weight)
    assert relative(columns, unchecked) < 1e-5


def test_the_budget_counts_the_converted_copy():
    model, x = mlp(nn.Tanh), single(4, 3).float()
    copied = 8 * sum(p.numel() for p in model.parameters())
    with pytest.raises(InvalidArgument, match=rf"the model in torch\.float64 must fit.*Pass max_bytes={copied} or"):
        Linearization(model, x, dtype=torch.float64, max_bytes=copied - 1)
    kernel = 8 * 8 * 8
    lin = Linearization(model, x, dtype=torch.float64, max_bytes=copied + kernel - 1)
    with pytest.raises(InvalidArgument, match=rf"a kernel of 8 x 8 must fit.*Pass max_bytes={copied + kernel} or"):
        lin.kernel()
    assert Linearization(model, x, dtype=torch.float64, max_bytes=copied + kernel).kernel().shape == (8, 8)
    # What has that precision already is no further copy.
    assert Linearization(model.double(), x, dtype=torch.float64, max_bytes=kernel).kernel().shape == (8, 8)
