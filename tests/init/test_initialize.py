"""What holds for every scheme and every kind of parameter."""

from __future__ import annotations

import copy
import math
import pickle
import sys
import warnings

import cloudpickle
import pytest
import torch
from tests.init.models import NORM_LAYERS, Conv1D, Everything, bits, course_network, made, noise, same_bits
from torch import nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.init import (
    LSUV,
    SCHEMES,
    Constant,
    Default,
    Fill,
    He,
    Initializer,
    InitTable,
    Normal,
    Orthogonal,
    Xavier,
    Zero,
    initialize,
    resolve_scheme,
)

FILLING = [name for name in SCHEMES if name not in ("default", "lsuv")]
RANDOM = ["random", "he", "xavier", "orthogonal"]
EVERY_NAME = pytest.mark.parametrize("scheme", [*FILLING, "default"])


def everything() -> Everything:
    return made(Everything)


@pytest.mark.parametrize(("inputs", "std"), [(64, 0.1768), (3072, 0.0255)])
def test_he_gives_the_course_network_the_expected_standard_deviations(inputs, std):
    model = course_network(inputs)
    table = initialize(model, "he")
    assert table["0.weight"].std_asked == pytest.approx(std, abs=5e-5)
    for i in range(0, 22, 2):
        row = table[f"{i}.weight"]
        last = i == 20  # no activation follows
        fan_in = inputs if i == 0 else 50
        gain = 1 if last else math.sqrt(2)
        assert (row.fan, row.gain) == (fan_in, pytest.approx(gain))
        assert row.std_asked == pytest.approx(gain / math.sqrt(fan_in), rel=1e-12)
        assert row.rule == f"He fan_in={fan_in}, {'no activation' if last else 'relu'}"
        # Ten outputs of 50 weights leave more noise than the 2,500 of a hidden layer.
        weight = dict(model.named_parameters())[f"{i}.weight"]
        assert row.std_measured == pytest.approx(float(weight.detach().std(correction=0)), rel=1e-6)
        assert row.std_measured == pytest.approx(row.std_asked, rel=0.05 if weight.numel() > 1000 else 0.1)
        assert abs(float(weight.detach().mean())) < 4 * row.std_asked / math.sqrt(weight.numel())


def test_random_gives_every_weight_the_standard_deviation_001():
    for row in initialize(course_network(), "random"):
        if row.parameter.endswith("weight"):
            assert row.std_asked == 0.01
            assert math.isnan(row.fan)
            assert math.isnan(row.gain)
            assert row.std_measured == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(("scheme", "value"), [(Zero(), 0.0), (Constant(-0.25), -0.25), ("constant", 0.01)])
def test_a_fixed_value_is_in_every_weight_and_embedding_but_the_padding_row(scheme, value):
    model = everything()
    table = initialize(model, scheme)
    weights = 0
    for name, parameter in model.named_parameters():
        if "weight" in name and name.partition(".")[0] not in NORM_LAYERS:
            kept = parameter[torch.arange(len(parameter)) != 3] if name == "embedding.weight" else parameter
            assert bool((kept == value).all()), name
            assert table[name].std_asked == 0
            weights += 1
    assert weights > 20
    assert not model.embedding.weight[3].any()


@pytest.mark.parametrize("scheme", FILLING)
def test_biases_are_zero_and_norm_layers_one_and_zero_under_every_scheme(scheme):
    model = everything()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.7)
    table = initialize(model, scheme)
    biases = norm_weights = 0
    for name, parameter in model.named_parameters():
        if name.partition(".")[0] in NORM_LAYERS and name.endswith("weight"):
            assert bool((parameter == 1).all()), name
            assert table[name].rule == "constant 1"
            norm_weights += 1
        elif "bias" in name:
            assert not parameter.any(), name
            assert (table[name].rule, table[name].std_asked, table[name].std_measured) == ("constant 0", 0, 0)
            biases += 1
    assert norm_weights == len(NORM_LAYERS)
    assert biases == 30


def test_biases_stay_as_they_are_when_asked_but_those_of_norm_layers():
    model = everything()
    before = bits(model)
    table = initialize(model, "he", biases="keep")
    for name, value in bits(model).items():
        if "bias" in name and name.partition(".")[0] not in NORM_LAYERS:
            assert torch.equal(value, before[name]), name
            assert table[name].rule.startswith("as "), name
    assert not model.own_norm.bias.any()
    assert before["linear.bias"].any()


@pytest.mark.parametrize("scheme", FILLING)
def test_a_bare_parameter_stays_as_it_was_and_the_table_says_so(scheme):
    model = everything()
    before = model.bare.detach().clone()
    row = initialize(model, scheme)["bare"]
    assert torch.equal(model.bare, before)
    assert row.rule == "as Everything made it"
    assert all(math.isnan(x) for x in (row.std_asked, row.fan, row.gain))
    assert row.std_measured == pytest.approx(float(before.std(correction=0)))


def test_a_layer_scale_and_the_slopes_of_a_prelu_stay_as_the_model_made_them():
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU(4, init=0.1))
    assert initialize(model, Zero())["1.weight"].rule == "as PReLU made it"
    assert bool((model[1].weight == 0.1).all())


@pytest.mark.parametrize("scheme", ["he", "xavier", "orthogonal"])
def test_embeddings_have_variance_one_over_dimension_and_a_padding_row_of_zero(scheme):
    model = everything()
    table = initialize(model, scheme)
    assert table["embedding.weight"].std_asked == pytest.approx(1 / 5)
    assert table["embedding.weight"].rule == "N(0, 1/dimension)"
    rows = torch.arange(200) != 3
    assert float(model.embedding.weight.detach()[rows].std()) == pytest.approx(1 / 5, rel=0.05)
    assert table["bag.weight"].std_asked == pytest.approx(1 / 4)
    assert float(model.bag.weight.detach().std()) == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("scheme", FILLING)
def test_the_padding_row_of_an_embedding_stays_zero(scheme):
    model = everything()
    initialize(model, scheme)
    assert not model.embedding.weight[3].any()
    if scheme != "zero":
        assert model.embedding.weight[4].any()


def test_random_fills_embeddings_as_weights():
    model = everything()
    assert initialize(model, "random")["embedding.weight"].std_asked == 0.01
    assert float(model.embedding.weight.detach().std()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(
    ("mode", "parameter", "fan"),
    [
        ("fan_in", "linear.weight", 30),
        ("fan_out", "linear.weight", 40),
        ("fan_in", "bilinear.weight", 6 * 7),
        ("fan_in", "conv.weight", 8 * 9),
        ("fan_out", "conv.weight", 16 * 9),
        ("fan_in", "conv1d.weight", 4 * 5),
        ("fan_out", "conv1d.weight", 8 * 5),
        ("fan_in", "transposed.weight", 8 * 9),
        # A fused parameter is filled part by part: 32, not 96 outputs; 30, not 90 or 120.
        ("fan_in", "attention.in_proj_weight", 32),
        ("fan_out", "attention.in_proj_weight", 32),
        ("fan_in", "attention.out_proj.weight", 32),
        ("fan_in", "cross_attention.k_proj_weight", 16),
        ("fan_in", "cross_attention.v_proj_weight", 24),
        ("fan_in", "gru.weight_ih_l0", 20),
        ("fan_in", "gru.weight_hh_l0", 30),
        ("fan_out", "gru.weight_ih_l0", 30),
        ("fan_out", "gru.weight_hh_l1_reverse", 30),
        ("fan_out", "cell.weight_hh", 30),
        ("fan_out", "lstm.weight_ih_l0", 30),
        ("fan_in", "lstm.weight_hr_l0", 30),
        ("fan_out", "lstm.weight_hr_l0", 10),
        ("fan_out", "rnn.weight_hh_l0", 30),
    ],
)
def test_he_takes_the_fan_of_each_layer_and_of_each_part_of_a_fused_one(mode, parameter, fan):
    row = initialize(everything(), He(mode))[parameter]
    assert row.fan == fan
    assert row.std_asked == pytest.approx(row.gain / math.sqrt(fan), rel=1e-12)
    assert row.std_measured == pytest.approx(row.std_asked, rel=0.1)
    assert f"He {mode}={fan}," in row.rule


@pytest.mark.parametrize(
    ("parameter", "gain"),
    [("attention.in_proj_weight", 1), ("attention.out_proj.weight", 1), ("cross_attention.q_proj_weight", 1),
     ("rnn.weight_ih_l0", 5 / 3), ("rnn.weight_hh_l0", 5 / 3), ("gru.weight_ih_l0", 1), ("lstm.weight_hh_l0", 1)],
)  # fmt: skip
def test_attention_has_gain_1_a_plain_rnn_that_of_its_nonlinearity_and_gates_that_of_the_sigmoid(parameter, gain):
    assert initialize(everything(), "he")[parameter].gain == pytest.approx(gain)
    assert initialize(nn.RNN(3, 4, nonlinearity="relu"), "he")["weight_hh_l0"].gain == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(
    ("parameter", "parts", "words"),
    [("attention.in_proj_weight", 3, "per projection"), ("gru.weight_ih_l0", 3, "per gate"),
     ("lstm.weight_hh_l0", 4, "per gate"), ("rnn.weight_ih_l0", 1, "per gate"), ("cell.weight_ih", 3, "per gate")],
)  # fmt: skip
def test_every_projection_and_every_gate_is_filled_and_the_table_says_so(parameter, parts, words):
    model = everything()
    row = initialize(model, He("fan_out"))[parameter]
    assert row.rule.endswith(words)
    for part in dict(model.named_parameters())[parameter].detach().chunk(parts):
        assert float(part.std()) == pytest.approx(row.std_asked, rel=0.12)


class Named(nn.Module):
    """A linear layer under a name."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, layer)

    def forward(self, x):
        q, k, v = getattr(self, self.name)(x).chunk(3, -1)
        return torch.softmax(q @ k.mT, -1) @ v


@pytest.mark.parametrize("name", ["qkv", "to_qkv", "qkv_proj", "Wqkv", "in_proj", "c_attn", "query_key_value"])
def test_a_users_fused_projection_is_filled_per_projection_by_its_name(name):
    model = Named(name, nn.Linear(16, 48))
    row = initialize(model, Orthogonal())[f"{name}.weight"]
    assert row.rule == "orthogonal, no activation, per projection (fused by its name)"
    for part in getattr(model, name).weight.detach().chunk(3):
        torch.testing.assert_close(part @ part.T, torch.eye(16), rtol=0, atol=1e-5)


def test_neither_the_name_nor_the_shape_alone_makes_a_fused_projection():
    assert "per projection" not in initialize(Named("qkv", nn.Linear(16, 24)), "he")["qkv.weight"].rule
    assert "per projection" not in initialize(Named("proj", nn.Linear(16, 48)), "he")["proj.weight"].rule
    assert "per projection" not in initialize(Named("sqkvs", nn.Linear(16, 48)), "he")["sqkvs.weight"].rule


def test_hugging_faces_conv1d_has_the_fans_of_a_linear_layer_and_is_fused_by_its_name():
    model = Named("c_attn", Conv1D(48, 16))
    row = initialize(model, Orthogonal())["c_attn.weight"]
    assert (row.fan, row.gain) == (16, 1)
    assert row.rule.endswith("per projection (fused by its name)")
    for part in model.c_attn.weight.detach().chunk(3, dim=1):
        torch.testing.assert_close(part @ part.T, torch.eye(16), rtol=0, atol=1e-5)
    mlp = nn.Sequential(Conv1D(400, 100), nn.ReLU(), Conv1D(7, 400))
    table = initialize(mlp, "he")
    assert [(table[n].fan, table[n].gain) for n in ("0.weight", "2.weight")] == [(100, math.sqrt(2)), (400, 1)]
    assert table["0.weight"].std_measured == pytest.approx(math.sqrt(2 / 100), rel=0.05)


@pytest.mark.parametrize("scheme", RANDOM)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(scheme):
    tables, found = [], []
    for seed in (3, 3, 4):
        model = everything()
        tables.append(initialize(model, scheme, torch.Generator().manual_seed(seed)))
        found.append(bits(model))
    assert same_bits(found[0], found[1])
    assert str(tables[0]) == str(tables[1])
    assert not torch.equal(found[0]["linear.weight"], found[2]["linear.weight"])


def test_the_bits_depend_neither_on_what_the_model_held_nor_on_data_nor_on_memory_layout():
    found = []
    for change in (lambda m: m, lambda m: m.to(memory_format=torch.channels_last)):
        model = change(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)))
        for data in (None, noise(2, 3, 3, 3)):
            initialize(model, "he", data=data)
            found.append(bits(model))
    assert all(same_bits(found[0], each) for each in found)


def test_without_a_generator_the_seed_is_zero():
    first, second = everything(), everything()
    initialize(first, "he")
    initialize(second, "he", torch.Generator().manual_seed(0))
    assert same_bits(bits(first), bits(second))


@EVERY_NAME
def test_global_random_numbers_are_left_alone(scheme, rng_untouched):
    model = everything()
    with rng_untouched():
        initialize(model, scheme)
        initialize(model, scheme, torch.Generator().manual_seed(1))


@EVERY_NAME
def test_the_table_has_one_row_a_parameter_in_the_models_order(scheme):
    model = everything()
    table = initialize(model, scheme)
    assert isinstance(table, InitTable)
    assert [row.parameter for row in table] == [name for name, _ in model.named_parameters()]
    assert len(table) == len(list(model.parameters()))


@pytest.mark.parametrize("trainable", [True, False])
@EVERY_NAME
def test_parameters_stay_the_same_objects_in_the_same_memory_and_as_trainable_as_they_were(scheme, trainable):
    model = everything().requires_grad_(trainable)
    before = [(parameter, parameter.data_ptr()) for parameter in model.parameters()]
    initialize(model, scheme)
    for now, (then, memory) in zip(model.parameters(), before, strict=True):
        assert now is then
        assert now.data_ptr() == memory
        assert now.requires_grad is trainable
        assert now.is_leaf
        assert now.grad is None


def test_default_changes_nothing_and_measures_what_is_there():
    model = everything()
    before = copy.deepcopy(model.state_dict())
    table = initialize(model, "default")
    assert same_bits(bits(model), before)
    row = table["linear.weight"]
    assert row.rule == "as the model made it"
    assert math.isnan(row.std_asked)
    assert row.std_measured == pytest.approx(float(before["linear.weight"].std(correction=0)))


@pytest.mark.parametrize("scheme", RANDOM)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_dtype_of_a_model_is_kept_and_half_precision_is_drawn_in_single(scheme, dtype):
    model = nn.Linear(50, 50).to(dtype)
    row = initialize(model, scheme)["weight"]
    assert model.weight.dtype == dtype
    assert row.std_measured == pytest.approx(row.std_asked, rel=0.05)
    if dtype != torch.float64:
        single = nn.Linear(50, 50)
        initialize(single, scheme)
        assert torch.equal(single.weight.detach().to(dtype), model.weight.detach())


def test_complex_and_integer_parameters_stay_as_they_are_and_the_table_says_so():
    model = nn.Linear(4, 3, bias=False)
    model.weight = nn.Parameter(torch.arange(12).reshape(3, 4), requires_grad=False)
    row = initialize(model, "he")["weight"]
    assert row.rule == "left: requires_grad=False"
    assert torch.equal(model.weight, torch.arange(12).reshape(3, 4))
    assert row.std_measured == pytest.approx(math.sqrt(143 / 12))
    assert initialize(nn.Linear(4, 3, dtype=torch.complex64), "he")["weight"].rule == "as Linear made it, complex64"


def test_a_parameter_without_entries_has_no_measured_deviation_and_one_entry_has_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about filling nothing
        model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 0))
    table = initialize(model, "random")
    assert math.isnan(table["1.weight"].std_measured)
    assert math.isnan(table["1.bias"].std_measured)
    assert table["0.weight"].std_measured == 0


def test_a_tied_weight_is_filled_once_by_the_embeddings_rule_and_the_table_says_that_it_is_shared():
    for order in (("embedding", "head"), ("head", "embedding")):
        model = nn.Module()
        layers = {"embedding": nn.Embedding(400, 100, padding_idx=1), "head": nn.Linear(100, 400, bias=False)}
        layers["head"].weight = layers["embedding"].weight
        for name in order:
            model.add_module(name, layers[name])
        (row,) = initialize(model, "he")
        assert row.parameter == f"{order[0]}.weight"
        assert row.rule == f"N(0, 1/dimension); shared with {order[1]}.weight"
        assert row.std_measured == pytest.approx(0.1, rel=0.05)
        assert not layers["head"].weight[1].any()


def test_a_module_that_is_itself_a_layer_is_initialised():
    assert initialize(nn.Linear(50, 50), Normal(std=0.3))["weight"].std_measured == pytest.approx(0.3, rel=0.05)
    assert initialize(nn.Linear(50, 50), "he")["weight"].rule == "He fan_in=50, no activation"


class Ones(Initializer):
    """A scheme of one's own."""

    def weight(self, weight, layer, generator):  # noqa: ARG002
        nn.init.ones_(weight)
        return Fill(f"ones, {layer.followed_by()}", 0.0, layer.fan_in, layer.gain())


def test_an_own_scheme_is_one_method_and_is_told_of_fans_and_activation():
    model = everything()
    table = initialize(model, Ones(), biases="keep")
    assert bool((model.gru.weight_ih_l0 == 1).all())
    assert bool((model.transposed.weight == 1).all())
    assert table["linear.weight"].rule == "ones, activation unknown; taken as relu"
    assert table["attention.in_proj_weight"].rule == "ones, no activation, per projection"
    assert (table["linear.weight"].fan, table["linear.weight"].gain) == (30, math.sqrt(2))
    assert initialize(course_network(), Ones())["0.weight"].rule == "ones, relu"


def test_an_own_scheme_that_replaces_the_whole_call_needs_none_of_the_options():
    class Nothing(Ones):
        def __call__(self, model, generator):  # noqa: ARG002
            return InitTable(())

    assert initialize(nn.Linear(2, 2), Nothing()) == InitTable(())


KINDS = {"zero": Zero, "constant": Constant, "random": Normal, "normal": Normal, "he": He, "xavier": Xavier,
         "orthogonal": Orthogonal, "lsuv": LSUV, "default": Default}  # fmt: skip


def test_every_scheme_has_a_name():
    assert SCHEMES == KINDS


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_found_by_name_equal_by_value_and_given_back_if_it_is_one(name):
    found = resolve_scheme(name)
    assert found == SCHEMES[name]()
    assert hash(found) == hash(SCHEMES[name]())
    assert resolve_scheme(found) is found


@pytest.mark.parametrize("module", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize(
    "scheme", [*map(resolve_scheme, SCHEMES), LSUV(noise(3, 2), tolerance=0.5), He("fan_out", "tanh")]
)
def test_a_scheme_survives_pickling_and_prints_all_that_it_is(scheme, module):
    copied = module.loads(module.dumps(scheme))
    assert copied == scheme
    assert repr(copied) == repr(scheme)
    assert type(scheme).__name__ in repr(scheme)


@pytest.mark.parametrize("refuse", [resolve_scheme, lambda name: initialize(nn.Linear(2, 2), name)])
def test_an_unknown_name_is_refused_with_the_nearest_known_one(refuse):
    message = r"no such init \(got 'zeros'\). Did you mean zero\? Known: zero, constant, random, normal, he, xavier"
    with pytest.raises(UnknownName, match=message):
        refuse("zeros")


def test_a_model_without_parameters_is_refused():
    with pytest.raises(
        InvalidArgument, match=r"a model to initialise must have parameters \(got 'ReLU'\). Pass a module"
    ):
        initialize(nn.ReLU(), "he")


@EVERY_NAME
def test_a_lazy_layer_that_has_seen_no_input_is_refused_and_one_that_has_is_filled(scheme):
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    with pytest.raises(InvalidArgument, match=r"lazy layer must have.*got '0.weight'.*Run one batch through it first"):
        initialize(model, scheme)
    model(torch.zeros(1, 2))
    assert len(initialize(model, scheme)) == 2


def test_a_model_on_the_meta_device_is_refused():
    with pytest.raises(InvalidArgument, match=r"meta device.*got 'weight'.*to_empty"):
        initialize(nn.Linear(2, 2, device="meta"), "he")


@pytest.mark.parametrize("scheme", ["he", "xavier", "orthogonal"])
@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0)], ids=str)
def test_a_weight_without_a_fan_is_refused_by_the_schemes_that_ask_for_it_and_no_others(scheme, shape):
    model = nn.Linear(3, 3, bias=False)
    model.weight = nn.Parameter(torch.ones(shape))
    with pytest.raises(
        InvalidArgument, match=r"must have two dimensions or more, none of them of size zero \(got 'weight'\). Use"
    ):
        initialize(model, scheme)
    assert initialize(model, Constant(2.0))["weight"].rule == "constant 2"
    assert not (model.weight != 2).any()


def test_biases_are_zero_or_kept_and_nothing_else():
    with pytest.raises(InvalidArgument, match=r"biases must be one of zero, keep .got 'ones'"):
        initialize(nn.Linear(2, 2), "he", biases="ones")


@pytest.mark.parametrize("data", [[1.0], {}])
def test_data_that_are_no_inputs_are_refused(data):
    with pytest.raises(InvalidArgument, match=r"data must be a tensor, or a tuple or a dict of the model's inputs"):
        initialize(nn.Linear(2, 2), "he", data=data)


def test_data_that_the_model_does_not_take_are_refused_with_what_it_said():
    with pytest.raises(
        InvalidArgument, match=r"data must be what the model is called with.*RuntimeError.*Pass one batch"
    ):
        initialize(nn.Linear(2, 2), "he", data=torch.ones(2, 3))


@pytest.mark.parametrize("init", ["he", "lsuv"])
def test_inputs_by_keyword_are_those_by_position(init):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x, gate):
            return self.second(self.first(x).relu() * gate)

    x, gate = torch.randn(16, 4, generator=torch.Generator().manual_seed(1)), torch.ones(16, 8)
    models = [Gated(), Gated()]
    for model, data in zip(models, ((x, gate), {"gate": gate, "x": x}), strict=True):
        initialize(model, init, torch.Generator().manual_seed(0), data)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_scheme_in_a_file_is_found_by_its_path(tmp_path, monkeypatch):
    name = f"schemes_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(
        "from steepest.init import Normal\n\nclass Mine(Normal):\n    pass\n\nwide = Normal(std=3.0)\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert type(resolve_scheme(f"./{name}.py:Mine")).__name__ == "Mine"
    assert resolve_scheme(f"{name}:wide").std == 3.0
    with pytest.raises(InvalidArgument, match=rf"{name}:number must be a scheme, or the class of one \(got 3\)"):
        resolve_scheme(f"{name}:number")
    with pytest.raises(UnknownName, match=r"Did you mean he\?.*or your own as module:attribute or file.py:attribute"):
        resolve_scheme("hee")
