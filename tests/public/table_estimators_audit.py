"""Rows of steepest.estimators: audits, and the choice of an estimator."""

from __future__ import annotations

import functools

import torch
from tests.public.kinds import FLOATING, FUNCTION, GENERATOR, OBJECT, SERIES, number, whole
from tests.public.rows import Fresh, Result, Row, row

from steepest.estimators import Backprop, ScoreFunction, audit, choose


def square(x):
    """An objective of many points."""
    return x.square().sum(-1)


@functools.cache
def audited():
    """An audit."""
    return audit(Backprop(), square, torch.tensor([1.0, 2.0]))


CALLED = {
    "objective": (square, FUNCTION),
    "x": (torch.tensor([1.0, 2.0]), FLOATING.but("numpy vector")),
    "generator": (Fresh(lambda: torch.Generator().manual_seed(0)), GENERATOR.but("None")),
    "sigma": (0.0, number("[0, inf)").but("None")),
}

TABLE: dict[str, Row | Result] = {
    "estimators.Audit": Result(audited),
    "estimators.Audit.plot": row(),
    "estimators.Audit.samples_for": row(accuracy=(0.1, number("(0, inf)"))),
    "estimators.Choice": Result(lambda: choose(square, torch.ones(2), 100)),
    "estimators.choose": row(
        **CALLED,
        budget=(1000, whole(1)),
        samples=(10, whole(4)),
        candidates=([ScoreFunction(0.1, 10)], SERIES.but("None", "[]").also("'x'")),
    ),
    "estimators.audit": row(
        estimator=(Backprop(), FUNCTION),
        **CALLED,
        distribution=(None, OBJECT.but("None")),
        budget=(10_000, whole(1000)),
        seconds=(1.0, number("(0, inf]")),
        nan="nothing is drawn, so that there is no spread with which a standard error could be compared",
    ),
}
