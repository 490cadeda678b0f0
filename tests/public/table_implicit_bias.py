"""Rows of steepest.implicit_bias."""

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

from steepest.implicit_bias import (
    GradientDescent,
    Hypentropy,
    Prediction,
    inverse_square_root,
    predict,
    simulate,
    survey,
)
from steepest.norms import L1

A, B = [[1.0, 0.1, 0.01]], [1.0]
HUGE = ("10**30", "10**400")


@functools.cache
def prediction() -> Prediction:
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
OWN_CALL = untried("the library calls it with the problem that it has checked")
OUTSIDE = "outside of its domain a potential is not a number"
ENTRIES = (Fresh(lambda: torch.tensor([1.0, 2.0])), FLOATING)

TABLE: dict[str, Row | Result] = {
    "implicit_bias.Certificate": Result(lambda: prediction().certificate),
    "implicit_bias.Prediction": Result(prediction),
    "implicit_bias.Simulation": Result(simulation),
    "implicit_bias.Surveyed": Result(surveyed),
    "implicit_bias.Spread": Result(lambda: prediction().spread(steps=2, seeds=1)),
    "implicit_bias.Prediction.spread": row(
        costly=HUGE, schedules=([0.1], SCHEDULE.but("None")), steps=(3, whole(1)), seeds=(1, whole(1))
    ),
    "implicit_bias.Prediction.sensitivity": row(scales=([1.0, 1.0, 1.0], VECTOR.also("1", "nan", "[-1]"))),
    "implicit_bias.Entropy": row(then=differentiated),
    "implicit_bias.Hypentropy": row(then=differentiated, beta=(0.1, number("(0, inf)"))),
    "implicit_bias.PNorm": row(then=differentiated, p=(3.0, number("(1, inf)"))),
    "implicit_bias.Potential.__call__": row(x=ENTRIES, nan=OUTSIDE),
    "implicit_bias.Potential.gradient": row(x=ENTRIES, nan=OUTSIDE),
    "implicit_bias.Potential.inverse_gradient": row(z=ENTRIES, nan=OUTSIDE),
    "implicit_bias.Potential.curvature": row(x=ENTRIES, nan=OUTSIDE),
    "implicit_bias.Potential.contains": row(x=ENTRIES),
    "implicit_bias.Potential.start": row(n=(3, OWN_CALL)),
    "implicit_bias.GradientDescent": row(then=used, **LINEAR),
    "implicit_bias.RescaledFeatures": row(then=used, **LINEAR),
    "implicit_bias.Preconditioned": row(
        then=used, diagonal=([1.0, 2.0, 3.0], VECTOR.also("None", "nan", "[-1]", "zero tensor")), **LINEAR
    ),
    "implicit_bias.SignDescent": row(then=used, batch_size=BATCH),
    "implicit_bias.EpochAdam": row(
        then=used,
        schedule=(lambda t: (t + 1) ** -0.5, SCHEDULE.but("None")),
        eps=(0.0, number("[0, inf)")),
        batch_size=BATCH,
    ),
    "implicit_bias.MirrorDescent": row(
        then=used,
        potential=(Hypentropy(0.1), OBJECT),
        momentum=MOMENTUM,
        momentum_on=("primal", choice()),
        batch_size=BATCH,
    ),
    "implicit_bias.NormSteepest": row(
        then=used,
        norm=(L1(), OBJECT),
        mode=("penalized", choice()),
        shape=((1, 3), whole(1).but("None").also("()", "[-1]", "['x']")),
    ),
    "implicit_bias.Rule.afresh": row(),
    "implicit_bias.Rule.sizes": row(schedule=(inverse_square_root, OWN_CALL)),
    "implicit_bias.Rule.limit": row(problem=(prediction().problem, OWN_CALL)),
    "implicit_bias.Rule.scale": row(problem=(prediction().problem, OWN_CALL)),
    "implicit_bias.Rule.schedules": row(problem=(prediction().problem, OWN_CALL), steps=(3, OWN_CALL)),
    "implicit_bias.Rule.sees_all": row(problem=(prediction().problem, OWN_CALL)),
    "implicit_bias.Rule.start": row(n=(3, OWN_CALL)),
    "implicit_bias.Rule.step": row(problem=(prediction().problem, OWN_CALL), runs=(1, OWN_CALL)),
    "implicit_bias.GradientDescent.metric": row(),
    "implicit_bias.GradientDescent.root": row(problem=(prediction().problem, OWN_CALL)),
    "implicit_bias.Preconditioned.metric": row(),
    "implicit_bias.Preconditioned.root": row(problem=(prediction().problem, OWN_CALL)),
    "implicit_bias.RescaledFeatures.metric": row(),
    "implicit_bias.RescaledFeatures.root": row(problem=(prediction().problem, OWN_CALL)),
    "implicit_bias.LossDisplay": row(
        then=plotted,
        steps=({"a": [0, 1]}, SERIES),
        losses=({"a": [1.0, 0.5]}, SERIES),
        cycles=({"a": (0.1, 0.2)}, SERIES),
    ),
    "implicit_bias.LossDisplay.of": row(
        runs=({"a": simulation()}, MAPPING.also("{'x': None}", "{1: 2}")),
        residuals=({"a": (0.1, 0.2)}, MAPPING.but("None").also("{'x': None}", "{1: 2}")),
    ),
    "implicit_bias.LossDisplay.plot": row(),
    "implicit_bias.TrajectoryDisplay": row(
        then=plotted,
        paths=({"a": [(0.0, 1.0), (1.0, 2.0)]}, SERIES.also("{'x': [1.0]}")),
        points=({"a": (0.0, 1.0)}, SERIES.also("{'x': [1.0]}")),
        solutions=({"a": [(0.0, 1.0), (1.0, 2.0)]}, SERIES.also("{'x': [1.0]}")),
        coordinates=((0, 1), OBJECT.also("()", "[None]", "[-1]", "('x', 'x')")),
    ),
    "implicit_bias.TrajectoryDisplay.of": row(
        runs=({"a": (prediction(), simulation())}, MAPPING.also("{}", "{'x': None}", "{1: 2}")),
        coordinates=((0, 1), OBJECT.also("()", "[None]", "[-1]", "('x', 'x')")),
    ),
    "implicit_bias.TrajectoryDisplay.plot": row(),
    "implicit_bias.SensitivityDisplay": row(
        then=plotted, values=({"a": [1.0, 0.5]}, SERIES), names=(["x", "y"], NAMES.but("['x']").also("'x'"))
    ),
    "implicit_bias.SensitivityDisplay.plot": row(),
    "implicit_bias.certify": row(
        rule=RULE,
        **PROBLEM,
        theta=([1.0, 0.0, 0.0], VECTOR.also("None", "1", "nan")),
        loss=LOSS,
        tolerance=(1e-6, number("(0, 1)")),
    ),
    "implicit_bias.effective_preconditioner": row(
        optimizer=(Fresh(stepped), OBJECT.also("module")),
        parameters=(None, OBJECT.but("None", "[]", "{}").also("[None]", "['x']")),
    ),
    "implicit_bias.inverse_square_root": row(t=(3, whole(0))),
    "implicit_bias.predict": row(rule=RULE, **PROBLEM, loss=LOSS),
    "implicit_bias.predict_batch": row(
        rule=RULE,
        A=([A], MATRIX.but("[]")),
        b=([B], VECTOR.but("[]").also("None", "1", "nan")),
        theta0=([[0.0] * 3], VECTOR.but("[None]").also("1", "nan")),
        loss=LOSS,
    ),
    "implicit_bias.sensitivity": row(
        point=(Fresh(lambda: torch.tensor([1.0, 2.0, 3.0])), VECTOR.also("None", "nan")),
        scales=([1.0, 1.0, 1.0], VECTOR.also("None", "1", "nan", "[-1]")),
    ),
    "implicit_bias.simulate": row(
        costly=HUGE,
        rule=RULE,
        **PROBLEM,
        schedule=(0.1, SCHEDULE.also("[]")),
        steps=(3, whole(1)),
        loss=LOSS,
        seeds=(1, whole(1).but("[1.0, 2.0]").also("[nan]", "['x']", "[-1]", "()")),
        nan="a run with large steps grows beyond all numbers",
    ),
    "implicit_bias.survey": row(
        costly=HUGE,
        **PROBLEM,
        loss=LOSS,
        scales=([1.0, 1.0, 1.0], VECTOR.also("1", "nan", "[-1]")),
        steps=(0, whole(0)),
    ),
    "implicit_bias.two_cycle": row(
        a=([1.0, 2.0], VECTOR.but("tensor").also("None", "nan", "zero tensor")),
        lr=(0.1, number("(0, inf)").but("a function")),
        b=(1.0, number("(-inf, inf)")),
        theta0=([0.0, 0.0], VECTOR.also("nan")),
        costly=HUGE,
    ),
}
