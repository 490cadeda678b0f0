"""Rows of steepest.landing."""

from __future__ import annotations

import functools

import torch
from tests.public.kinds import (
    ARRAY,
    FLAG,
    FLOATING,
    MAPPING,
    NAMES,
    OBJECT,
    SERIES,
    Kind,
    choice,
    number,
    untried,
    whole,
)
from tests.public.rows import Fresh, Result, Row, row
from torch import nn

from steepest.landing import (
    GradientDescent,
    Hypentropy,
    Landing,
    predict,
    simulate,
    survey,
)
from steepest.norms import L1

A, B = [[1.0, 0.1, 0.01]], [1.0]
HUGE = ("10**30", "10**400")


@functools.cache
def landing() -> Landing:
    return predict(GradientDescent(), A, B)


@functools.cache
def simulation():
    return simulate(GradientDescent(), A, B, 0.1, 3)


@functools.cache
def surveyed():
    return survey(A, B, steps=0)[0]


def stepped():
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], 0.1)
    parameter.grad = torch.ones(3)
    optimizer.step()
    return optimizer


def used(rule):
    """What was accepted predicts."""
    predict(rule, A, B)


def differentiated(potential):
    potential.gradient(torch.tensor([1.0, 2.0]))


def plotted(display):
    display.plot()


MATRIX = ARRAY.also("None", "True", "1", "nan", "[]", "'0'", "vector", "empty tensor", "numpy vector")
VECTOR = ARRAY.also("[]", "tensor", "{}")
RULE = (Fresh(GradientDescent), OBJECT.also("module", "a function"))
LOSS = ("squared", choice())
PROBLEM = {"A": (A, MATRIX), "b": (B, VECTOR.also("None", "nan")), "theta0": ([0.0] * 3, VECTOR.also("1", "nan"))}
MOMENTUM = (0.5, number("[0, 1)"))
BATCH = (1, whole(1).but("None"))
LINEAR = {"momentum": MOMENTUM, "nesterov": (False, FLAG), "batch_size": BATCH}
SCHEDULE: Kind = (
    number("(0, inf)")
    .but("a function", "int", "[1.0, 2.0]", "0")
    .also("['x']", "[nan]", "[None]", "a function to text", "a function to nan")
)
SEAM = untried("the library calls it with the problem that it has checked")
OUTSIDE = "outside of its domain a potential is not a number"
ENTRIES = (Fresh(lambda: torch.tensor([1.0, 2.0])), FLOATING)

TABLE: dict[str, Row | Result] = {
    "landing.Certificate": Result(lambda: landing().certificate),
    "landing.Landing": Result(landing),
    "landing.Simulation": Result(simulation),
    "landing.Surveyed": Result(surveyed),
    "landing.Spread": Result(lambda: landing().spread(steps=2, seeds=1)),
    "landing.Landing.spread": row(
        costly=HUGE, schedules=([0.1], SCHEDULE.but("None")), steps=(3, whole(1)), seeds=(1, whole(1))
    ),
    "landing.Landing.sensitivity": row(scales=([1.0, 1.0, 1.0], VECTOR.also("1", "nan", "[-1]"))),
    "landing.Entropy": row(then=differentiated),
    "landing.Hypentropy": row(then=differentiated, beta=(0.1, number("(0, inf)"))),
    "landing.PNorm": row(then=differentiated, p=(3.0, number("(1, inf)"))),
    "landing.Potential.__call__": row(x=ENTRIES, nan=OUTSIDE),
    "landing.Potential.gradient": row(x=ENTRIES, nan=OUTSIDE),
    "landing.Potential.inverse_gradient": row(z=ENTRIES, nan=OUTSIDE),
    "landing.Potential.curvature": row(x=ENTRIES, nan=OUTSIDE),
    "landing.Potential.contains": row(x=ENTRIES),
    "landing.Potential.start": row(n=(3, SEAM)),
    "landing.GradientDescent": row(then=used, **LINEAR),
    "landing.RescaledFeatures": row(then=used, **LINEAR),
    "landing.Preconditioned": row(
        then=used, diagonal=([1.0, 2.0, 3.0], VECTOR.also("None", "nan", "[-1]", "zero tensor")), **LINEAR
    ),
    "landing.SignDescent": row(then=used, batch_size=BATCH),
    "landing.EpochAdam": row(
        then=used,
        schedule=(lambda t: (t + 1) ** -0.5, SCHEDULE.but("None")),
        eps=(0.0, number("[0, inf)")),
        batch_size=BATCH,
    ),
    "landing.MirrorDescent": row(
        then=used,
        potential=(Hypentropy(0.1), OBJECT),
        momentum=MOMENTUM,
        momentum_on=("primal", choice()),
        batch_size=BATCH,
    ),
    "landing.NormSteepest": row(
        then=used,
        norm=(L1(), OBJECT),
        mode=("penalized", choice()),
        shape=((1, 3), whole(1).but("None").also("()", "[-1]", "['x']")),
    ),
    "landing.Rule.claim": row(problem=(landing().problem, SEAM)),
    "landing.Rule.scale": row(problem=(landing().problem, SEAM)),
    "landing.Rule.schedules": row(problem=(landing().problem, SEAM), steps=(3, SEAM)),
    "landing.Rule.sees_all": row(problem=(landing().problem, SEAM)),
    "landing.Rule.start": row(n=(3, SEAM)),
    "landing.Rule.step": row(problem=(landing().problem, SEAM), runs=(1, SEAM)),
    "landing.GradientDescent.metric": row(),
    "landing.GradientDescent.root": row(problem=(landing().problem, SEAM)),
    "landing.Preconditioned.metric": row(),
    "landing.Preconditioned.root": row(problem=(landing().problem, SEAM)),
    "landing.RescaledFeatures.metric": row(),
    "landing.RescaledFeatures.root": row(problem=(landing().problem, SEAM)),
    "landing.LossDisplay": row(
        then=plotted,
        steps=({"a": [0, 1]}, SERIES),
        losses=({"a": [1.0, 0.5]}, SERIES),
        cycles=({"a": (0.1, 0.2)}, SERIES),
    ),
    "landing.LossDisplay.of": row(
        runs=({"a": simulation()}, MAPPING.also("{'x': None}", "{1: 2}")),
        residuals=({"a": (0.1, 0.2)}, MAPPING.but("None").also("{'x': None}", "{1: 2}")),
    ),
    "landing.LossDisplay.plot": row(),
    "landing.TrajectoryDisplay": row(
        then=plotted,
        paths=({"a": [(0.0, 1.0), (1.0, 2.0)]}, SERIES.also("{'x': [1.0]}")),
        points=({"a": (0.0, 1.0)}, SERIES.also("{'x': [1.0]}")),
        solutions=({"a": [(0.0, 1.0), (1.0, 2.0)]}, SERIES.also("{'x': [1.0]}")),
        coordinates=((0, 1), OBJECT.also("()", "[None]", "[-1]", "('x', 'x')")),
    ),
    "landing.TrajectoryDisplay.of": row(
        runs=({"a": (landing(), simulation())}, MAPPING.also("{}", "{'x': None}", "{1: 2}")),
        coordinates=((0, 1), OBJECT.also("()", "[None]", "[-1]", "('x', 'x')")),
    ),
    "landing.TrajectoryDisplay.plot": row(),
    "landing.SensitivityDisplay": row(
        then=plotted, values=({"a": [1.0, 0.5]}, SERIES), names=(["x", "y"], NAMES.but("['x']").also("'x'"))
    ),
    "landing.SensitivityDisplay.plot": row(),
    "landing.certify": row(
        rule=RULE,
        **PROBLEM,
        theta=([1.0, 0.0, 0.0], VECTOR.also("None", "1", "nan")),
        loss=LOSS,
        tolerance=(1e-6, number("(0, 1)")),
    ),
    "landing.effective_preconditioner": row(
        optimizer=(Fresh(stepped), OBJECT.also("module")),
        parameters=(None, OBJECT.but("None", "[]", "{}").also("[None]", "['x']")),
    ),
    "landing.inverse_square_root": row(t=(3, whole(0))),
    "landing.predict": row(rule=RULE, **PROBLEM, loss=LOSS),
    "landing.predict_batch": row(
        rule=RULE,
        A=([A], MATRIX.but("[]")),
        b=([B], VECTOR.but("[]").also("None", "1", "nan")),
        theta0=([[0.0] * 3], VECTOR.but("[None]").also("1", "nan")),
        loss=LOSS,
    ),
    "landing.sensitivity": row(
        point=(Fresh(lambda: torch.tensor([1.0, 2.0, 3.0])), VECTOR.also("None", "nan")),
        scales=([1.0, 1.0, 1.0], VECTOR.also("None", "1", "nan", "[-1]")),
    ),
    "landing.simulate": row(
        costly=HUGE,
        rule=RULE,
        **PROBLEM,
        schedule=(0.1, SCHEDULE.also("[]")),
        steps=(3, whole(1)),
        loss=LOSS,
        seeds=(1, whole(1).but("[1.0, 2.0]").also("[nan]", "['x']", "[-1]", "()")),
        nan="a run with large steps grows beyond all numbers",
    ),
    "landing.survey": row(
        costly=HUGE,
        **PROBLEM,
        loss=LOSS,
        scales=([1.0, 1.0, 1.0], VECTOR.also("1", "nan", "[-1]")),
        steps=(0, whole(0)),
    ),
    "landing.two_cycle": row(
        a=([1.0, 2.0], VECTOR.but("tensor").also("None", "nan", "zero tensor")),
        lr=(0.1, number("(0, inf)").but("a function")),
        b=(1.0, number("(-inf, inf)")),
        theta0=([0.0, 0.0], VECTOR.also("nan")),
        costly=HUGE,
    ),
}
