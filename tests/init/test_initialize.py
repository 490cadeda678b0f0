from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.init import SCHEMES, Default, He, Initializer, InitTable, Normal, Zero, initialize, resolve_scheme

FILLING = ["zero", "random", "normal", "he"]
EVERY_NAME = pytest.mark.parametrize("scheme", [*FILLING, "default"])


def course_network(inputs: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, 50), nn.ReLU()]
    for _ in range(9):
        layers += [nn.Linear(50, 50), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(50, 10))


class Everything(nn.Module):
    """A layer of every kind that the schemes know, and one parameter that they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(30, 40)
        self.bilinear = nn.Bilinear(6, 7, 8)
        self.conv = nn.Conv2d(8, 16, 3)
        self.conv1d = nn.Conv1d(8, 16, 5, groups=2)
        self.transposed = nn.ConvTranspose2d(8, 8, 3)
        self.embedding = nn.Embedding(200, 25, padding_idx=3)
        self.bag = nn.EmbeddingBag(100, 16)
        self.attention = nn.MultiheadAttention(32, 4)
        self.cross_attention = nn.MultiheadAttention(32, 4, kdim=16, vdim=24, add_bias_kv=True)
        self.gru = nn.GRU(20, 30, num_layers=2, bidirectional=True)
        self.lstm = nn.LSTM(20, 30, proj_size=10)
        self.rnn = nn.RNN(20, 30)
        self.layer_norm = nn.LayerNorm(12)
        self.group_norm = nn.GroupNorm(2, 12)
        self.batch_norm = nn.BatchNorm1d(12)
        self.instance_norm = nn.InstanceNorm2d(12, affine=True)
        self.rms_norm = nn.RMSNorm(12)
        self.bare = nn.Parameter(torch.randn(7, 3))


NORM_LAYERS = ["layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm"]


def everything() -> Everything:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Everything()


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("inputs", "std"), [(64, 0.1768), (3072, 0.0255)])
def test_he_gives_the_course_network_the_expected_standard_deviations(inputs, std):
    model = course_network(inputs)
    table = initialize(model, "he")
    assert table["0.weight"].std_asked == pytest.approx(std, abs=5e-5)
    for i in range(0, 22, 2):
        row = table[f"{i}.weight"]
        fan_in = inputs if i == 0 else 50
        assert row.std_asked == pytest.approx(math.sqrt(2 / fan_in), rel=1e-12)
        assert row.rule == f"He fan_in={fan_in}"
        # Ten outputs of 50 weights leave more noise than the 2,500 of a hidden layer.
        weight = dict(model.named_parameters())[f"{i}.weight"]
        assert row.std_measured == pytest.approx(float(weight.detach().std(correction=0)), rel=1e-6)
        assert row.std_measured == pytest.approx(row.std_asked, rel=0.05 if weight.numel() > 1000 else 0.1)
        assert abs(float(weight.detach().mean())) < 4 * row.std_asked / math.sqrt(weight.numel())


def test_random_gives_every_weight_the_standard_deviation_001():
    model = course_network()
    for row in initialize(model, "random"):
        if row.parameter.endswith("weight"):
            assert row.std_asked == 0.01
            assert row.std_measured == pytest.approx(0.01, rel=0.1)


def test_zero_leaves_nothing_but_the_norm_layers_and_bare_parameters():
    model = everything()
    initialize(model, "zero")
    for name, parameter in model.named_parameters():
        if name.partition(".")[0] in NORM_LAYERS:
            assert bool((parameter == (1 if name.endswith("weight") else 0)).all()), name
        elif name != "bare":
            assert not parameter.any(), name


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
    assert biases == 27


@pytest.mark.parametrize("scheme", FILLING)
def test_a_bare_parameter_stays_as_it_was_and_the_table_says_so(scheme):
    model = everything()
    before = model.bare.detach().clone()
    row = initialize(model, scheme)["bare"]
    assert torch.equal(model.bare, before)
    assert row.rule == "as Everything made it"
    assert math.isnan(row.std_asked)
    assert row.std_measured == pytest.approx(float(before.std(correction=0)))


def test_embeddings_under_he_have_variance_one_over_dimension_and_a_padding_row_of_zero():
    model = everything()
    table = initialize(model, "he")
    assert table["embedding.weight"].std_asked == pytest.approx(1 / 5)
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
        ("fan_in", "conv.weight", 8 * 9),
        ("fan_out", "conv.weight", 16 * 9),
        ("fan_in", "conv1d.weight", 4 * 5),
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
        ("fan_out", "lstm.weight_ih_l0", 30),
        ("fan_in", "lstm.weight_hr_l0", 30),
        ("fan_out", "rnn.weight_hh_l0", 30),
    ],
)
def test_he_takes_the_fan_of_each_layer_and_of_each_part_of_a_fused_one(mode, parameter, fan):
    model = everything()
    row = initialize(model, He(mode))[parameter]
    assert row.std_asked == pytest.approx(math.sqrt(2 / fan), rel=1e-12)
    assert row.std_measured == pytest.approx(row.std_asked, rel=0.1)
    assert f"He {mode}={fan}" in row.rule


@pytest.mark.parametrize(
    ("parameter", "parts", "words"),
    [("attention.in_proj_weight", 3, "per projection"), ("gru.weight_ih_l0", 3, "per gate"),
     ("lstm.weight_hh_l0", 4, "per gate"), ("rnn.weight_ih_l0", 1, "per gate")],
)  # fmt: skip
def test_every_projection_and_every_gate_is_filled_and_the_table_says_so(parameter, parts, words):
    model = everything()
    row = initialize(model, He("fan_out"))[parameter]
    assert row.rule.endswith(words)
    for part in dict(model.named_parameters())[parameter].detach().chunk(parts):
        assert float(part.std()) == pytest.approx(row.std_asked, rel=0.12)


@pytest.mark.parametrize("scheme", ["random", "he"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(scheme):
    tables, found = [], []
    for seed in (3, 3, 4):
        model = everything()
        tables.append(initialize(model, scheme, torch.Generator().manual_seed(seed)))
        found.append(bits(model))
    for name, parameter in found[0].items():
        assert torch.equal(parameter, found[1][name])
    assert str(tables[0]) == str(tables[1])
    assert not torch.equal(found[0]["linear.weight"], found[2]["linear.weight"])


def test_without_a_generator_the_seed_is_zero():
    first, second = everything(), everything()
    initialize(first, "he")
    initialize(second, "he", torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


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


@EVERY_NAME
def test_parameters_stay_the_same_objects_and_trainable(scheme):
    model = everything()
    before = list(model.parameters())
    initialize(model, scheme)
    for now, then in zip(model.parameters(), before, strict=True):
        assert now is then
        assert now.requires_grad
        assert now.is_leaf
        assert now.grad is None


def test_default_changes_nothing_and_measures_what_is_there():
    model = everything()
    before = copy.deepcopy(model.state_dict())
    table = initialize(model, "default")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    row = table["linear.weight"]
    assert row.rule == "as the model made it"
    assert math.isnan(row.std_asked)
    assert row.std_measured == pytest.approx(float(before["linear.weight"].std(correction=0)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_dtype_of_a_model_is_kept(dtype):
    model = nn.Linear(50, 50).to(dtype)
    row = initialize(model, "he")["weight"]
    assert model.weight.dtype == dtype
    assert row.std_measured == pytest.approx(0.2, rel=0.05)


def test_a_tied_weight_is_filled_once():
    model = nn.Sequential(nn.Embedding(40, 10), nn.Linear(10, 40, bias=False))
    model[1].weight = model[0].weight
    assert [row.parameter for row in initialize(model, "he")] == ["0.weight"]


def test_a_module_that_is_itself_a_layer_is_initialised():
    assert initialize(nn.Linear(50, 50), Normal(std=0.3))["weight"].std_measured == pytest.approx(0.3, rel=0.05)


def test_an_own_scheme_is_one_method():
    class Ones(Initializer):
        def weight(self, weight, generator):  # noqa: ARG002
            nn.init.ones_(weight)
            return "ones", 0.0

    model = everything()
    table = initialize(model, Ones())
    assert bool((model.gru.weight_ih_l0 == 1).all())
    assert table["linear.weight"].rule == "ones"
    assert not model.linear.bias.any()


@pytest.mark.parametrize(("name", "kind"), [("zero", Zero), ("random", Normal), ("he", He), ("default", Default)])
def test_a_scheme_is_found_by_name_and_given_back_if_it_is_one(name, kind):
    assert resolve_scheme(name) == SCHEMES[name]() == kind()
    given = Normal(std=0.5)
    assert resolve_scheme(given) is given


@pytest.mark.parametrize("door", [resolve_scheme, lambda name: initialize(nn.Linear(2, 2), name)])
def test_an_unknown_name_is_refused_with_the_nearest_known_one(door):
    message = r"no such init \(got 'zeros'\). Did you mean zero\? Known: zero, random, normal, he, default."
    with pytest.raises(UnknownName, match=message):
        door("zeros")


def test_a_model_without_parameters_is_refused():
    with pytest.raises(InvalidArgument, match=r"a model to initialise has parameters \(got 'ReLU'\). Pass a module"):
        initialize(nn.ReLU(), "he")


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_standard_deviation_that_is_not_finite_and_positive_is_refused(std):
    with pytest.raises(InvalidArgument, match=rf"std must be a finite number above 0 \(got {std}\). Pass std > 0"):
        Normal(std=std)


def test_a_fan_that_does_not_exist_is_refused_when_the_scheme_is_made():
    with pytest.raises(InvalidArgument, match=r"fan_in.*fan_out.*got 'fan_avg'"):
        He("fan_avg")
