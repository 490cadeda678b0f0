"""Rows of steepest.init."""

from __future__ import annotations

import torch
from tests.public.kinds import FLAG, GENERATOR, NAMES, OBJECT, TEXT, anything, choice, number, untried, whole
from tests.public.rows import Fresh, Result, Row, row
from torch import nn

from steepest.init import LSUV, Activation, Fill, InitRow, Layer, Normal, initialize


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def batch():
    return torch.linspace(-1, 1, 24).view(8, 3)


def used(scheme):
    """What was accepted fills a model."""
    return initialize(net(), scheme, data=batch())


MODEL = (Fresh(net), OBJECT.also("lazy module", "empty module"))
DATA = (Fresh(batch), OBJECT.but("None", "tensor", "[]").also("[None]"))
SCHEME = ("he", OBJECT.also("''", "a lone surrogate", "raises in eq"))
NONLINEARITY = ("relu", choice())
FROZEN = ((), NAMES.also("None", "'x'", "{'x': None}"))
OPTIONS = {"data": DATA, "biases": ("zero", choice()), "depth_scaled": (False, FLAG), "frozen": FROZEN}
GIVEN = (Fresh(lambda: torch.Generator().manual_seed(0)), GENERATOR)
OWN_CALL = untried("the library calls it with what it made")

TABLE: dict[str, Row | Result] = {
    "init.LSUV": row(
        then=lambda scheme: initialize(net(), scheme),
        receiver=lambda: LSUV(batch()),
        data=(
            Fresh(batch),
            OBJECT.but("None", "tensor", "[]").also("complex tensor", "meta tensor", "[None]"),
        ),
        tolerance=(0.1, number("(0, inf)")),
        iterations=(2, whole(1)),
    ),
    "init.Constant": row(then=used, value=(0.01, number("(-inf, inf)"))),
    "init.Default": row(then=used),
    "init.He": row(then=used, mode=("fan_in", choice()), nonlinearity=NONLINEARITY),
    "init.Xavier": row(then=used, nonlinearity=NONLINEARITY),
    "init.Orthogonal": row(then=used, nonlinearity=NONLINEARITY),
    "init.Normal": row(then=used, std=(0.01, number("[0, inf)"))),
    "init.Zero": row(then=used),
    "init.Initializer.__call__": row(model=MODEL, generator=GIVEN, **OPTIONS),
    "init.Initializer.weight": row(
        weight=(Fresh(lambda: torch.zeros(4, 3)), OWN_CALL),
        layer=(Layer("0.weight", 3, 4), OWN_CALL),
        generator=(Fresh(torch.Generator), OWN_CALL),
    ),
    "init.Initializer.embedding": row(
        weight=(Fresh(lambda: torch.zeros(4, 3)), OWN_CALL),
        layer=(Layer("0.weight", 3, 4), OWN_CALL),
        generator=(Fresh(torch.Generator), OWN_CALL),
    ),
    "init.Activation": row(
        then=lambda activation: activation.gain,
        name=("leaky_relu", choice()),
        arguments=((0.1,), anything("an option of torch's function: what it does not take it refuses")),
    ),
    "init.Fill": Result(lambda: Fill("zeros")),
    "init.InitRow": Result(lambda: InitRow("0.weight", "zeros", 1.0, 1.0, 0.0, 0.0)),
    "init.InitTable": Result(lambda: initialize(net(), Normal())),
    "init.InitTable.__getitem__": row(parameter=("0.weight", TEXT.also("'x'"))),
    "init.Layer": Result(lambda: Layer("0.weight", 3, 4, Activation("relu"))),
    "init.Layer.fan": row(mode=("fan_in", choice())),
    "init.Layer.gain": row(otherwise=("relu", choice())),
    "init.Layer.followed_by": row(otherwise=("relu", choice())),
    "init.initialize": row(
        then=str,
        model=MODEL,
        scheme=SCHEME,
        generator=(Fresh(lambda: torch.Generator().manual_seed(0)), GENERATOR.but("None")),
        **OPTIONS,
    ),
    "init.resolve_scheme": row(scheme=SCHEME),
}
