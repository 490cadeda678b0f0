"""Rows of steepest.linearize."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from tests.public.kinds import (
    FLAG,
    FLOATING,
    MAPPING,
    NAMES,
    NUMBERS,
    OBJECT,
    SERIES,
    TEXT,
    Kind,
    choice,
    number,
    whole,
)
from tests.public.rows import Fresh, Result, Row, row
from torch import nn

from steepest.linearize import (
    ChangeDisplay,
    FeatureChange,
    FeaturesDisplay,
    FunctionDisplay,
    Label,
    Labels,
    LearningDisplay,
    Linearization,
    PrincipalFeaturesDisplay,
    Spectrum,
    compare_linearizations,
)


def net():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def inputs():
    return torch.linspace(-1, 1, 5)[:, None]


@functools.cache
def linearization() -> Linearization:
    return Linearization(net(), inputs())


@functools.cache
def trajectory():
    return linearization().trajectory([0.0, 1.0], y=inputs())


def plotted(display):
    display.plot()


def used(made):
    """What was accepted has features."""
    made.features()


POINTS = Fresh(lambda: torch.linspace(-1, 1, 7))
TIMES = np.array([0.0, 1.0, 2.0])
ROWS = np.ones((2, 3))
# Other inputs of the same kind; None for the linearization's own.
INPUTS: Kind = FLOATING.but("None").also("tensor", "5-d tensor", "[None]", "['x']", "{'x': tensor}")
TARGET: Kind = FLOATING.but("[1.0, 2.0]").also("tensor", "nan tensor", "empty vector", "[None]", "vector")
COUNT = whole(1).but("None")
OWN = (Fresh(linearization), OBJECT.also("module"))
AT = (POINTS, FLOATING.also("tensor", "empty vector", "5-d tensor"))
OUTPUT = (0, whole(0, 0))

TABLE: dict[str, Row | Result] = {
    "linearize.Linearization": row(
        then=used,
        receiver=linearization,
        costly=("1e300",),
        model=(Fresh(net), OBJECT.also("lazy module", "empty module", "module")),
        x=(Fresh(inputs), FLOATING.also("tensor", "5-d tensor", "empty tensor", "[None]", "['x']")),
        outputs=(None, OBJECT.but("None", "int").also("[-1]", "['x']", "[None]", "a function to text", "range(3)")),
        max_bytes=(1 << 20, number("[1, inf)")),
        seed=(None, whole(0).but("None")),
        check=(True, FLAG),
        dtype=(torch.float64, OBJECT.but("None").also("integer dtype")),
    ),
    "linearize.Linearization.adjoint": row(),
    "linearize.Linearization.alignment": row(y=(Fresh(inputs), TARGET.also("zero tensor"))),
    "linearize.Linearization.effective_rank": row(ridge=(0.1, number("(0, inf)"))),
    "linearize.Linearization.features": row(
        x=(Fresh(inputs), INPUTS),
        parameters=("0.weight", NAMES.also("'x'", "{'x': None}")),
        out=(None, FLOATING.but("None").also("tensor", "empty tensor", "float16 tensor")),
    ),
    "linearize.Linearization.inputs": row(),
    "linearize.Linearization.kernel": row(
        x1=(Fresh(inputs), INPUTS),
        x2=(Fresh(inputs), INPUTS),
        trace=(False, FLAG),
        dtype=(torch.float64, OBJECT.but("None").also("integer dtype")),
    ),
    "linearize.Linearization.matvec": row(
        v=(Fresh(lambda: torch.ones(13)), FLOATING.also("vector", "empty vector", "5-d tensor"))
    ),
    "linearize.Linearization.__matmul__": row(
        v=(Fresh(lambda: torch.ones(13)), FLOATING.also("vector", "empty vector"))
    ),
    "linearize.Linearization.rmatvec": row(
        u=(Fresh(lambda: torch.ones(5)), FLOATING.also("vector", "empty vector", "5-d tensor"))
    ),
    "linearize.Linearization.parameters": row(),
    "linearize.Linearization.predictions": row(x=(Fresh(inputs), INPUTS)),
    "linearize.Linearization.principal_features": row(x=(Fresh(inputs), INPUTS), k=(2, COUNT)),
    "linearize.Linearization.svd": row(k=(2, COUNT)),
    "linearize.Linearization.to_scipy": row(),
    "linearize.Linearization.trajectory": row(
        t=([0.0, 1.0], NUMBERS.also("[]", "[nan]", "[-1]")),
        lr=(0.1, number("(0, inf)").but("None")),
        y=(Fresh(inputs), TARGET),
        x=(Fresh(inputs), INPUTS),
        k=(2, COUNT),
        reduction=("mean", choice()),
        nan="a large learning rate diverges",
    ),
    "linearize.SVD": Result(lambda: linearization().svd()),
    "linearize.SVD.first": row(k=(1, whole(1, 5))),
    "linearize.SVD.require": row(k=(1, whole(0))),
    "linearize.SVD.right": row(),
    "linearize.SVD.right_exact": row(),
    "linearize.Adjoint": row(linearization=OWN),
    "linearize.Adjoint.adjoint": row(),
    "linearize.Adjoint.__matmul__": row(u=(Fresh(lambda: torch.ones(5)), FLOATING.also("vector", "empty vector"))),
    "linearize.FeatureChange": Result(lambda: FeatureChange.of(linearization(), linearization())),
    "linearize.FeatureChange.from_dict": row(
        numbers=(dataclasses.asdict(FeatureChange.of(linearization(), linearization())), MAPPING)
    ),
    "linearize.FeatureChange.of": row(start=OWN, end=OWN),
    "linearize.Spectrum": Result(lambda: Spectrum.of(linearization())),
    "linearize.Spectrum.of": row(linearization=OWN),
    "linearize.Alignment": Result(lambda: linearization().alignment(inputs())),
    "linearize.Label": Result(lambda: Label("0.weight", 0, "0")),
    "linearize.Labels": Result(lambda: Labels({"0.weight": torch.ones(4, 1)})),
    "linearize.Labels.columns": row(parameter=("0.weight", TEXT.also("'x'"))),
    "linearize.LinearizationChange": Result(lambda: compare_linearizations(linearization(), linearization())),
    "linearize.Plan": Result(lambda: linearization().svd().plan),
    "linearize.Trajectory": Result(trajectory),
    "linearize.compare_linearizations": row(before=OWN, after=OWN, k=(2, COUNT)),
    "linearize.ChangeDisplay": row(
        then=plotted,
        receiver=lambda: ChangeDisplay([0, 1], {"a": [1.0, 0.5]}, {"b": [3.0, 2.0]}),
        steps=([0, 1], NUMBERS.also("long vector")),
        shares=({"a": [1.0, 0.5]}, SERIES),
        counts=({"b": [3.0, 2.0]}, SERIES),
    ),
    "linearize.ChangeDisplay.of": row(
        linearizations=(Fresh(lambda: {0: linearization()}), MAPPING.also("{}", "{'x': None}", "{1: 2}")),
        y=(Fresh(inputs), TARGET.but("None")),
        ridge=(1e-3, number("(0, inf)")),
    ),
    "linearize.ChangeDisplay.plot": row(at=(1, whole(0).but("None"))),
    "linearize.FeaturesDisplay": row(
        then=plotted,
        receiver=lambda: FeaturesDisplay.of(linearization(), torch.linspace(-1, 1, 7)),
        x=(TIMES, NUMBERS.also("long vector")),
        curves=({"a": ROWS}, SERIES.also("{'x': [1.0]}")),
        indices=({"a": [0, 1]}, SERIES),
        bands=({"a": np.ones((4, 3))}, SERIES.also("{'x': [1.0]}")),
        counts=({"a": 2}, SERIES),
        elbows=([0.5], NUMBERS),
    ),
    "linearize.FeaturesDisplay.of": row(
        costly=("10**30", "10**400"), linearization=OWN, x=AT, strongest=(2, whole(1)), output=OUTPUT
    ),
    "linearize.FeaturesDisplay.plot": row(parameter=("0.weight", TEXT.but("None").also("'x'"))),
    "linearize.FunctionDisplay": row(
        then=plotted,
        receiver=lambda: FunctionDisplay.of(linearization(), torch.linspace(-1, 1, 7), inputs(), 1.0),
        x=(TIMES, NUMBERS.also("long vector")),
        network=(TIMES, NUMBERS.also("long vector")),
        linearized=({"a": TIMES}, SERIES.also("{'x': [1.0]}")),
        points=(TIMES, NUMBERS.also("long vector")),
        targets=(TIMES, NUMBERS.also("long vector")),
    ),
    "linearize.FunctionDisplay.of": row(
        linearization=OWN,
        x=AT,
        y=(Fresh(inputs), TARGET),
        t=(1.0, number("[0, inf)")),
        directions=((1,), NUMBERS.also("[nan]", "[-1]", "[1.0, 2.0]")),
        output=OUTPUT,
    ),
    "linearize.FunctionDisplay.plot": row(),
    "linearize.PrincipalFeaturesDisplay": row(
        then=plotted,
        receiver=lambda: PrincipalFeaturesDisplay.of(linearization(), torch.linspace(-1, 1, 7)),
        x=(TIMES, NUMBERS.also("long vector")),
        features=(ROWS, NUMBERS.also("[1.0, 2.0]", "[[1], [2, 3]]")),
        singular_values=(np.array([2.0, 1.0]), NUMBERS.also("long vector")),
        points=(TIMES, NUMBERS.also("long vector")),
        at_points=(ROWS, NUMBERS.also("[1.0, 2.0]", "[[1], [2, 3]]")),
    ),
    "linearize.PrincipalFeaturesDisplay.of": row(
        linearization=OWN,
        x=AT,
        k=(2, whole(1)),
        output=OUTPUT,
        like=(
            Fresh(lambda: PrincipalFeaturesDisplay.of(linearization(), torch.linspace(-1, 1, 7))),
            OBJECT.but("None"),
        ),
    ),
    "linearize.PrincipalFeaturesDisplay.plot": row(k=(1, COUNT)),
    "linearize.LearningDisplay": row(
        then=plotted,
        receiver=lambda: LearningDisplay.of(trajectory()),
        times=(TIMES, NUMBERS.also("long vector")),
        residuals=(np.ones((3, 2)), NUMBERS.also("[1.0, 2.0]", "[[1], [2, 3]]")),
        singular_values=(np.array([2.0, 1.0]), NUMBERS.also("long vector")),
        learned_at=(np.array([2.0, 1.0]), NUMBERS.also("long vector")),
    ),
    "linearize.LearningDisplay.of": row(trajectory=(Fresh(trajectory), OBJECT), k=(2, whole(1))),
    "linearize.LearningDisplay.plot": row(),
    "linearize.SpectrumDisplay": row(
        then=plotted,
        singular_values=({"a": [2.0, 1.0]}, SERIES),
        ranks=({"a": 2}, SERIES.also("{'x': [1.0]}")),
        thresholds=({"a": 0.1}, SERIES.also("{'x': [1.0]}")),
        complete=({"a": True}, SERIES.also("{'x': [1.0]}")),
    ),
    "linearize.SpectrumDisplay.of": row(
        svds=(Fresh(lambda: linearization().svd()), OBJECT.but("{}").also("{'x': None}", "{1: 2}"))
    ),
    "linearize.SpectrumDisplay.plot": row(),
}
