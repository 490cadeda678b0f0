"""Rows of steepest.estimators."""

from __future__ import annotations

import torch
from tests.public.kinds import (
    FLAG,
    FLOATING,
    FUNCTION,
    GENERATOR,
    OBJECT,
    TEXT,
    anything,
    choice,
    number,
    whole,
)
from tests.public.rows import Fresh, Result, Row, row

from steepest.estimators import (
    Backprop,
    Estimate,
    FiniteDifference,
    Pathwise,
    ScoreFunction,
)


def square(x):
    """An objective of many points."""
    return x.square().sum(-1)


def drawn():
    """A generator."""
    return torch.Generator().manual_seed(0)


DISTRIBUTION = OBJECT.but("None")
WORST = choice()
CALLED = {
    "objective": (square, FUNCTION),
    "x": (torch.tensor([1.0, 2.0]), FLOATING.but("numpy vector")),
}
RECORD = anything("a record of what a source has found")
TABLE: dict[str, Row | Result] = {
    "estimators.Backprop": row(),
    "estimators.Backprop.__call__": row(**CALLED, generator=(None, anything("it draws nothing"))),
    "estimators.Backprop.evaluations": row(x=(torch.ones(2), anything("it does not look at it"))),
    "estimators.Estimate": Result(lambda: Estimate(torch.tensor(1.0), torch.ones(2))),
    "estimators.FiniteDifference": row(
        delta=(1e-3, number("(0, inf)").but("None")),
        samples=(1, whole(1)),
        sigma=(0.1, number("[0, inf)")),
        central=(True, FLAG),
        directions=("coordinates", choice()),
        distribution=(None, DISTRIBUTION),
        worst=("largest", WORST),
    ),
    "estimators.FiniteDifference.__call__": row(
        **CALLED, generator=(Fresh(drawn), GENERATOR), receiver=lambda: FiniteDifference(1e-3, 2, 0.1)
    ),
    "estimators.FiniteDifference.evaluations": row(
        x=(torch.ones(2), FLOATING), receiver=lambda: FiniteDifference(1e-3, 2, 0.1)
    ),
    "estimators.Pathwise": row(
        sigma=(0.1, number("[0, inf)")),
        samples=(2, whole(1)),
        antithetic=(False, FLAG),
        distribution=(None, DISTRIBUTION),
        worst=("largest", WORST),
    ),
    "estimators.Pathwise.__call__": row(
        **CALLED, generator=(Fresh(drawn), GENERATOR), receiver=lambda: Pathwise(0.1, 2)
    ),
    "estimators.Pathwise.evaluations": row(
        x=(torch.ones(2), anything("it does not look at it")), receiver=lambda: Pathwise(0.1, 2)
    ),
    "estimators.ScoreFunction": row(
        sigma=(0.1, number("(0, inf)")),
        samples=(2, whole(1)),
        antithetic=(True, FLAG),
        baseline=("leave-one-out", choice().but("None")),
        distribution=(None, DISTRIBUTION),
        worst=("largest", WORST),
    ),
    "estimators.ScoreFunction.__call__": row(
        **CALLED, generator=(Fresh(drawn), GENERATOR), receiver=lambda: ScoreFunction(0.1, 4)
    ),
    "estimators.ScoreFunction.evaluations": row(
        x=(torch.ones(2), anything("it does not look at it")), receiver=lambda: ScoreFunction(0.1, 4)
    ),
    "estimators.batched": row(objective=(square, FUNCTION)),
    "estimators.needs_autograd": row(source=(Backprop(), anything("what has no such attribute needs none"))),
    "estimators.pointwise": row(objective=(square, FUNCTION), vectorize=(True, FLAG), chunk=(4, whole(1).but("None"))),
    "estimators.resolve_source": row(source=("backprop", TEXT.but("object()", "raises in repr"))),
}
