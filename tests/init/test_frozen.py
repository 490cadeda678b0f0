"""What an init that is asked for leaves alone: frozen parameters, and those that need no gradient."""

from __future__ import annotations

import pytest
import torch
from tests.init.models import GPT, Everything, bits, made, noise, same_bits
from torch import nn
from torch.nn.utils import parametrizations

from steepest.errors import InvalidArgument, UnknownName
from steepest.init import SCHEMES, Constant, initialize


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in bits(model).items() if not torch.equal(value, before[name])}


def biases_of_one(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or parameter.ndim == 1:
                parameter.fill_(0.7)
    return model


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_needs_no_gradient_is_not_touched_by_any_scheme(scheme):
    model = biases_of_one(made(Everything)).requires_grad_(False)
    model = biases_of_one(network()).requires_grad_(False) if scheme == "lsuv" else model
    before = bits(model)
    table = initialize(model, scheme, data=noise(5, 6) if scheme == "lsuv" else None)
    assert same_bits(bits(model), before)
    assert len(table) == len(list(model.parameters()))
    if scheme != "default":
        assert all(row.left and row.rule == "left: requires_grad=False" for row in table)
    assert table.rows[0].std_measured == pytest.approx(float(next(model.parameters()).std(correction=0)))


@pytest.mark.parametrize(
    ("frozen", "left"),
    [
        (["0"], {"0.weight", "0.bias"}),
        ("3", {"3.weight", "3.bias"}),
        (["3.weight"], {"3.weight"}),
        (["*.bias", "5"], {"0.bias", "1.bias", "3.bias", "5.bias", "5.weight"}),
        (("[01].*",), {"0.weight", "0.bias", "1.weight", "1.bias"}),
        ((), set()),
    ],
)
@pytest.mark.parametrize("scheme", ["he", "zero", "lsuv"])
def test_what_is_frozen_by_name_module_or_pattern_is_not_touched_and_all_else_is_filled(scheme, frozen, left):
    model = biases_of_one(network())
    before = bits(model)
    table = initialize(model, scheme, data=noise(50, 6), frozen=frozen)
    assert moved(model, before) == set(before) - left
    assert {row.parameter for row in table if row.left} == left
    assert {row.rule for row in table if row.left} <= {"left: frozen"}
    assert [row.parameter for row in table] == list(before)


def test_lsuv_scales_what_follows_a_frozen_layer_by_what_comes_out_of_that():
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(7)
    frozen = model[0].weight.detach().clone()
    initialize(model, "lsuv", data=noise(200, 6), frozen=["0", "1"])
    assert torch.equal(model[0].weight, frozen)
    assert float(model[:4](noise(200, 6)).detach().var(correction=0)) == pytest.approx(1, abs=1e-3)


def test_a_branch_whose_last_layer_is_frozen_is_not_scaled():
    found = {}
    for frozen in ((), ("blocks.0",), ("blocks",)):
        model = GPT()
        table = initialize(model, Constant(0.5), depth_scaled=True, frozen=frozen)
        found[frozen] = {row.parameter for row in table if "times 1/sqrt" in row.rule}
        for name in found[frozen]:
            assert float(model.get_parameter(name).detach().max()) < 0.5
    assert found[("blocks.0",)] == {name for name in found[()] if not name.startswith("blocks.0")} != set()
    assert found[("blocks",)] == set()


def test_a_tied_weight_is_frozen_by_each_of_its_names():
    for name in ("wte", "lm_head.weight"):
        model = GPT()
        before = bits(model)
        table = initialize(model, "he", frozen=[name])
        assert torch.equal(model.wte.weight, before["wte.weight"])
        assert table["wte.weight"].left
        assert sum(row.left for row in table) == 1


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_a_weight_of_which_one_part_is_frozen_is_left_as_a_whole(wrap):
    model = nn.Sequential(wrap(nn.Linear(6, 6)), nn.Linear(6, 6))
    original = next(name for name, _ in model.named_parameters() if "parametrizations" in name)
    model.get_parameter(original).requires_grad_(False)
    before = bits(model)
    table = initialize(model, "he")
    assert not any("parametrizations" in name for name in moved(model, before))
    assert table[original].rule == "left: requires_grad=False"
    others = {row.rule for row in table if "parametrizations" in row.parameter and row.parameter != original}
    assert others <= {"left: another parameter of this weight is frozen"}


def test_parameters_that_train_and_were_made_zero_are_filled():
    model = nn.Sequential(nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False))  # an adapter of low rank
    with torch.no_grad():
        model[1].weight.zero_()
    initialize(model, "he", frozen=["0"])
    assert model[1].weight.any()


@pytest.mark.parametrize("scheme", ["he", "default"])
def test_a_name_that_is_no_parameters_or_modules_is_refused_before_anything_changes(scheme):
    model = network()
    before = bits(model)
    with pytest.raises(UnknownName, match=r"no such parameter or module \(got '0.weigth'\). Did you mean 0.weight"):
        initialize(model, scheme, frozen=["3", "0.weigth"])
    assert same_bits(bits(model), before)


@pytest.mark.parametrize("frozen", [3, None, [3], [None], [b"0"]])
def test_frozen_is_a_sequence_of_names_and_nothing_else(frozen):
    with pytest.raises(InvalidArgument, match=r"frozen must be names of parameters or modules, or patterns"):
        initialize(network(), "he", frozen=frozen)
