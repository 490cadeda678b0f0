"""Rows of steepest.tasks and steepest.train."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from tests.public.kinds import FLAG, FUNCTION, GENERATOR, NAMES, OBJECT, TEXT, number, untried, whole
from tests.public.rows import Fresh, Result, Row, row
from torch import nn

from steepest.diagnose import Diagnosis
from steepest.tasks import Task, accuracy
from steepest.train import End, History, Start, Step, Validated


def model():
    return nn.Linear(4, 3)


@functools.cache
def data():
    labels = torch.arange(24) % 3
    return torch.randn(24, 4, generator=torch.Generator().manual_seed(0)) + torch.eye(4)[labels], labels


def task():
    options = {"metric": accuracy, "batch_size": 8, "steps": 3, "name": "tiny", "init": "he"}
    return Task(model=model, loss=nn.functional.cross_entropy, train=data(), valid=data(), **options)


def history():
    return History(
        steps=[0],
        valid_loss=[1.0],
        valid_metrics={"accuracy": [1.0]},
        seconds=[0.0],
        duration=1.0,
        diagnosis=Diagnosis("healthy", 0.5, (), ""),
        diverged=False,
        seconds_per_step=1.0,
        state_bytes=0,
    )


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


HUGE = ("10**30", "1e300", "10**400")
DATA = (Fresh(data), OBJECT.also("()", "('x', 'x')", "[None]"))
MODULE = (Fresh(model), OBJECT)
DEVICE = ("cpu", OBJECT.also("''"))
# Whatever a model of another shape raises is the model's own.
CALLED = (Fresh(model), replace(OBJECT, called=True))
SCORES = Fresh(lambda: torch.eye(3))
LABELS = Fresh(lambda: torch.arange(3))

TABLE: dict[str, Row | Result] = {
    "tasks.Metric": row(
        function=(accuracy, FUNCTION), higher_is_better=(None, FLAG.but("None")), name=("mine", TEXT.but("None"))
    ),
    "tasks.Task": row(
        then=lambda made: made.check(),
        model=(model, FUNCTION),
        loss=(nn.functional.cross_entropy, FUNCTION.but("None")),
        train=DATA,
        valid=DATA,
        metric=(accuracy, FUNCTION.but("None")),
        batch_loss=(None, FUNCTION.but("None")),
        valid_loss=(None, FUNCTION.but("None")),
        rank_by=("loss", TEXT),
        collate=(None, FUNCTION.but("None")),
        num_workers=(0, whole(0)),
        clip_norm=(None, number("(0, inf)").but("None")),
        validations=(30, whole(1).but("[1.0, 2.0]", "[]")),
        batch_size=(8, whole(1, 24)),
        eval_batch_size=(8, whole(1).but("None")),
        steps=(3, whole(1)),
        name=("tiny", TEXT),
        init=("he", TEXT),
        frozen=((), NAMES.also("None", "('x', 'x')")),
        receiver=task,
    ),
    "tasks.Task.build": row(seed=(0, whole(0))),
    "tasks.Task.batches": row(generator=(Fresh(lambda: torch.Generator().manual_seed(0)), GENERATOR)),
    "tasks.Task.validation_batches": row(),
    "tasks.Task.take": row(
        indices=(Fresh(lambda: torch.tensor([0, 1])), OBJECT.also("vector", "complex tensor", "meta tensor"))
    ),
    "tasks.Task.training_loss": row(model=CALLED, batch=(Fresh(data), untried("what a model raises is its own"))),
    "tasks.Task.evaluate": row(model=CALLED, device=DEVICE),
    "tasks.Task.validate": row(model=CALLED, device=DEVICE),
    "tasks.Task.check": row(needs_gradient=(True, FLAG)),
    "tasks.Task.fingerprint": row(),
    "tasks.accuracy": row(
        output=(SCORES, OBJECT.but("tensor").also("vector", "meta tensor")), target=(LABELS, OBJECT.but("tensor"))
    ),
    "tasks.curve": row(costly=HUGE, width=(4, whole(1)), depth=(1, whole(1))),
    "tasks.digits": row(costly=HUGE, width=(4, whole(1)), depth=(1, whole(1))),
    "tasks.mlp": row(
        costly=HUGE, inputs=(2, whole(1)), width=(4, whole(1)), depth=(1, whole(0)), outputs=(1, whole(1))
    ),
    "tasks.load": row(name=("curve", TEXT.also("'x'", "''", "a zero byte", "a lone surrogate"))),
    "train.End": Result(lambda: End(diverged=False, seconds_per_step=1.0)),
    "train.History": Result(history),
    "train.History.from_json": row(text=(history().to_json(), TEXT.also("'x'", "''"))),
    "train.History.to_json": row(),
    "train.Rates": row(optimizer=(Fresh(lambda: sgd(model(), 0.1)), OBJECT), factor=(None, FUNCTION.but("None"))),
    "train.Rates.resume": row(step=(0, whole(0))),
    "train.Rates.set": row(step=(0, whole(0))),
    "train.Start": Result(
        lambda: Start(task=task(), model=model(), optimizer=sgd(model(), 0.1), steps=1, validations=1, device="cpu")
    ),
    "train.Step": Result(lambda: Step(step=0, loss=torch.ones(()), target=torch.ones(1))),
    "train.Validated": Result(lambda: Validated(step=0, model=model(), loss=1.0, metrics={"accuracy": 1.0})),
    "train.train": row(
        costly=HUGE,
        task=(Fresh(task), OBJECT),
        optimizer=(sgd, FUNCTION),
        init=("he", OBJECT.also("''")),
        lr=(0.1, number("[0, inf)")),
        seed=(0, whole(0)),
        steps=(2, whole(1).but("None")),
        evaluations=(None, whole(1).but("None")),
        schedule=("cosine", FUNCTION.also("''")),
        warmup=(0, whole(0).but("0.5", "'0'").also("''", "'x'")),
        validations=(2, whole(1).but("None", "[1.0, 2.0]", "[]").also("[nan]", "['x']", "[None]", "[-1]")),
        gradient=(None, replace(OBJECT.but("None").also("''", "'x'"), called=True)),
        device=DEVICE,
        observe=((), FUNCTION.but("[]")),
    ),
}
