"""Arguments that no init takes, refused in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.init.models import bits, same_bits
from torch import Generator, nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.init import LSUV, Activation, Constant, He, Layer, Normal, Orthogonal, Xavier, initialize, resolve_scheme

NO_NUMBERS: list[Any] = [None, "1", True, 1j, math.nan, torch.tensor(1.0)]


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=str)
def test_what_is_no_finite_number_is_refused_where_one_is_meant(wrong):
    for make in (Constant, Normal, lambda x: LSUV(tolerance=x), lambda x: LSUV(iterations=x)):
        with pytest.raises(InvalidArgument, match="must be a"):
            make(wrong)


@pytest.mark.parametrize("wrong", [None, 3, "no", ["he"]], ids=str)
def test_a_name_that_is_none_is_refused(wrong):
    for make in (He, Xavier, Orthogonal):
        with pytest.raises(InvalidArgument):
            make(nonlinearity=wrong)
    with pytest.raises(InvalidArgument, match="mode must be one of fan_in, fan_out"):
        He(wrong)
    with pytest.raises(InvalidArgument):
        resolve_scheme(wrong)
    layer = Layer("w", 4, 4)
    for call in (layer.fan, layer.gain, layer.followed_by):
        with pytest.raises(InvalidArgument):
            call(wrong)


def test_an_activation_has_a_known_name_and_options_that_it_takes():
    assert Activation("leaky_relu", (0.0,)).gain == pytest.approx(math.sqrt(2))
    with pytest.raises(InvalidArgument, match=r"name must be one of .* \(got 'rellu'\). Did you mean relu"):
        Activation("rellu")
    wrong: list[Any] = [("x",), (0.1, 0.2, 0.3), [0.1], None]
    for arguments in wrong:
        with pytest.raises(InvalidArgument, match="arguments must be a tuple of options that leaky_relu takes"):
            Activation("leaky_relu", arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": 3}, "generator must be a torch.Generator"),
        ({"biases": None}, "biases must be one of zero, keep"),
        ({"depth_scaled": None}, "depth_scaled must be True or False"),
        ({"depth_scaled": 1}, "depth_scaled must be True or False"),
        ({"depth_scaled": 0}, "depth_scaled must be True or False"),
        ({"data": "x"}, "data must be a tensor"),
        ({"data": torch.ones(2, 2, device="meta")}, "data must be what the model is called with"),
        ({"data": torch.ones(2, 2, dtype=torch.complex64)}, "data must be what the model is called with"),
        ({"data": (None,)}, "data must be what the model is called with"),
    ],
    ids=str,
)
@pytest.mark.parametrize("scheme", ["he", "lsuv"])
def test_an_option_outside_its_range_is_refused_before_anything_changes(scheme, options, message):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    before = bits(model)
    with pytest.raises(InvalidArgument, match=message):
        initialize(model, scheme, **{"data": torch.ones(2, 2), **options})
    if scheme == "he":
        assert same_bits(bits(model), before)


@pytest.mark.parametrize("wrong", [None, "model", nn.Linear, [nn.Linear(2, 2)]], ids=str)
def test_a_model_is_a_module(wrong):
    for scheme in ("he", "default", Constant(1.0)):
        with pytest.raises(InvalidArgument, match=r"model must be a torch.nn.Module"):
            initialize(wrong, scheme)
    with pytest.raises(InvalidArgument, match=r"model must be a torch.nn.Module"):
        He()(wrong, Generator())


def test_a_scheme_called_by_itself_needs_a_generator():
    with pytest.raises(InvalidArgument, match=r"generator must be a torch.Generator \(got None\)"):
        He()(nn.Linear(2, 2), None)


def test_a_row_is_asked_for_by_name():
    table = initialize(nn.Linear(2, 2), "he")
    with pytest.raises(UnknownName, match="no such parameter"):
        table["weigth"]
    with pytest.raises(InvalidArgument, match="parameter must be a string"):
        table[0]
