"""Rows of steepest.diagnose."""

from __future__ import annotations

import functools

import torch
from tests.public.kinds import NAMES, NUMBERS, OBJECT, SERIES, number, whole
from tests.public.rows import Fresh, Result, Row, row
from torch import nn

from steepest.diagnose import ActivationDisplay, Diagnosis, GradientNormDisplay, LayerGradientDisplay, Monitor


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def watched():
    """An open monitor that has seen a step."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer).__enter__()
    loss = model(torch.ones(4, 3)).square().mean()
    loss.backward()
    optimizer.step()
    return monitor


def used(monitor):
    """What was accepted watches a step."""
    with monitor:
        monitor.record(0, 1.0)
    return monitor.diagnosis()


@functools.cache
def diagnosis():
    return Diagnosis("healthy", 0.5, ("It trains.",), "Nothing.")


def plotted(display):
    display.plot()


NORMS = GradientNormDisplay({"mean": [0, 1]}, {"mean": [1.0, 0.5]})
LAYERS = LayerGradientDisplay([0, 1], {"a": [1.0, 0.5]})
IDLE = ActivationDisplay([0, 1], {"a": [0.0, 0.5]})
STEPS = ([0, 1], NUMBERS.also("[nan]", "long vector"))
CURVES = ({"a": [1.0, 0.5]}, SERIES)

TABLE: dict[str, Row | Result] = {
    "diagnose.Monitor": row(
        then=used,
        receiver=watched,
        model=(Fresh(net), OBJECT.also("empty module", "lazy module")),
        optimizer=(None, OBJECT.but("None", "[]", "{}").also("[None]", "['x']", "optimizer")),
        every=(1, whole(1)),
        frozen=((), NAMES.also("None", "'x'", "{'x': None}")),
    ),
    "diagnose.Monitor.close": row(),
    "diagnose.Monitor.diagnosis": row(),
    "diagnose.Monitor.summary": row(),
    "diagnose.Monitor.paused": row(),
    "diagnose.Monitor.due": row(step=(0, whole(0))),
    "diagnose.Monitor.record": row(
        then=lambda _nothing: None,
        step=(0, whole(0)),
        loss=(
            0.5,
            number("(-inf, inf)")
            .but("None", "nan", "numpy nan", "inf", "-inf")
            .also("empty vector", "vector", "integer vector"),
        ),
        target=(None, OBJECT.but("None", "tensor")),
        gradient=(
            None,
            OBJECT.but("None", "tensor", "{}").also(
                "[None]", "['x']", "{'x': None}", "{'x': tensor}", "{1: 2}", "range(3)"
            ),
        ),
    ),
    "diagnose.Diagnosis": Result(diagnosis),
    "diagnose.ActivationDisplay": row(then=plotted, steps=STEPS, idle=CURVES),
    "diagnose.LayerGradientDisplay": row(then=plotted, steps=STEPS, norms=CURVES),
    "diagnose.GradientNormDisplay": row(
        then=plotted,
        steps=({"a": [0, 1]}, SERIES),
        norms=CURVES,
        palette=({"a": 0}, SERIES.but("None", "[]").also("{'x': [1.0]}")),
    ),
    "diagnose.SummaryDisplay": row(
        then=plotted,
        diagnosis=(diagnosis(), OBJECT),
        steps=STEPS,
        loss=([1.0, 0.5], NUMBERS.also("long vector")),
        update=([1.0, 0.5], NUMBERS.also("long vector")),
        gradients=(NORMS, OBJECT),
        layers=(LAYERS, OBJECT),
        activations=(IDLE, OBJECT),
    ),
    "diagnose.ActivationDisplay.plot": row(),
    "diagnose.LayerGradientDisplay.plot": row(),
    "diagnose.GradientNormDisplay.plot": row(),
    "diagnose.SummaryDisplay.plot": row(),
    "diagnose.SummaryDisplay.of": row(
        records=(Fresh(lambda: watched()._read()), OBJECT), diagnosis=(diagnosis(), OBJECT)
    ),
}
