"""Rows of steepest.optim."""

from __future__ import annotations

import torch
from tests.public.kinds import FLAG, FUNCTION, MAPPING, OBJECT, TEXT, anything, choice, number, whole
from tests.public.rows import Fresh, Result, Row, row
from torch import nn

from steepest.norms import L2, LInf
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent, route


def weight():
    parameter = nn.Parameter(torch.ones(4, 3))
    parameter.grad = torch.full((4, 3), 0.5)
    return parameter


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def stepped(optimizer):
    """What was accepted steps."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


PARAMS = (
    Fresh(lambda: [weight()]),
    OBJECT.also("[None]", "['x']", "[1.0, 2.0]", "[nan]", "{'x': None}", "{1: 2}", "empty module"),
)
# A tensor with one entry may be a learning rate.
RATE = (0.1, number("[0, inf)").also("vector", "empty vector", "0-d nan", "integer vector"))
OPTIONS = {
    "momentum": (0.5, number("[0, 1)")),
    "nesterov": (True, FLAG),
    "weight_decay": (0.01, number("[0, inf)")),
}
MAXIMIZE = {"maximize": (False, FLAG), "nonfinite": ("raise", choice())}
MODE = {"mode": ("penalized", choice())}


def loads(optimizer):
    """The row of load_state_dict, which takes the state of another of its kind."""
    return row(state_dict=(Fresh(lambda: optimizer().state_dict()), MAPPING.also("{}", "{'x': None}", "{1: 2}")))


TABLE: dict[str, Row | Result] = {
    "optim.SteepestDescent": row(
        then=stepped,
        params=PARAMS,
        norm=(L2(), OBJECT),
        lr=RATE,
        unsupported=(False, anything("any value of it is refused")),
        **OPTIONS,
        **MODE,
        **MAXIMIZE,
    ),
    "optim.SignDescent": row(
        then=stepped,
        params=PARAMS,
        lr=RATE,
        options=(False, anything("unknown options are refused")),
        **OPTIONS,
        **MODE,
        **MAXIMIZE,
    ),
    "optim.Muon": row(
        then=stepped,
        params=PARAMS,
        lr=RATE,
        options=(False, anything("unknown options are refused")),
        **OPTIONS,
        **MAXIMIZE,
    ),
    "optim.Scion": row(
        then=stepped,
        params=(Fresh(net), OBJECT.also("[None]", "['x']", "[1.0, 2.0]", "{'x': None}", "{1: 2}", "empty module")),
        lr=RATE,
        options=(False, anything("unknown options are refused")),
        **OPTIONS,
        **MAXIMIZE,
    ),
    "optim.EpochAdam": row(
        then=stepped,
        params=PARAMS,
        lr=RATE,
        steps_per_epoch=(2, whole(1)),
        schedule=(
            lambda t: 1 / (t + 1),
            FUNCTION.also("a function to text", "a function to nan", "a function without arguments"),
        ),
        options=(False, anything("unknown options are refused")),
        weight_decay=(0.01, number("[0, inf)")),
        **MAXIMIZE,
    ),
    "optim.SteepestDescent.add_param_group": row(
        param_group=(
            Fresh(lambda: {"params": [weight()], "norm": LInf(), "lr": 0.1}),
            MAPPING.also("{}", "{'x': None}", "{1: 2}"),
        )
    ),
    "optim.SteepestDescent.load_state_dict": loads(lambda: SteepestDescent([weight()], L2(), 0.1)),
    "optim.SignDescent.load_state_dict": loads(lambda: SignDescent([weight()], 0.1)),
    "optim.Muon.load_state_dict": loads(lambda: Muon([weight()], 0.1)),
    "optim.Scion.load_state_dict": loads(lambda: Scion(net(), 0.1)),
    "optim.EpochAdam.load_state_dict": loads(lambda: EpochAdam([weight()], 0.1)),
    "optim.Scion.add_param_group": row(
        param_group=(
            Fresh(lambda: {"params": [("x", weight())], "norm": LInf(), "lr": 0.1}),
            MAPPING.also("{}", "{'x': None}", "{1: 2}"),
        )
    ),
    "optim.EpochAdam.add_param_group": row(
        param_group=(Fresh(lambda: {"params": [weight()], "lr": 0.1}), MAPPING.also("{}", "{'x': None}", "{1: 2}"))
    ),
    "optim.SteepestDescent.state_dict": row(),
    "optim.SteepestDescent.step": row(
        closure=(None, FUNCTION.but("None")), nan="what the closure returns is returned, its nan too"
    ),
    "optim.Route": row(norm=(L2(), OBJECT), factor=(1.0, number("[0, inf)"))),
    "optim.Routing": Result(lambda: route(net())),
    "optim.Routing.__getitem__": row(name=("0.weight", TEXT.also("'x'"))),
    "optim.Routing.param_groups": row(lr=RATE),
    "optim.route": row(
        then=str,
        model=(Fresh(net), OBJECT),
        rules=(
            Fresh(lambda: [("*", LInf())]),
            OBJECT.but("None").also("[None]", "['x']", "{'x': None}", "{1: 2}", "('x', 'x')", "range(3)"),
        ),
    ),
    "optim.muon_rules": row(model=(Fresh(net), OBJECT)),
    "optim.scion_rules": row(model=(Fresh(net), OBJECT)),
    "optim.muon_norm": row(parameter=(Fresh(weight), OBJECT.but("tensor"))),
}
