"""Rows of steepest.train: programs. Those of tasks are in table_tasks."""

from __future__ import annotations

import atexit
import tempfile
from dataclasses import replace

import torch
from tests.public.kinds import FUNCTION, OBJECT, TEXT, anything, choice, number, whole
from tests.public.rows import Fresh, Result, Row, row
from tests.public.table_tasks import model, sgd

from steepest.communication import Ring
from steepest.init import He
from steepest.train import Fault, GroupRun, History, Program, TrainingRun, Trial
from steepest.train._run_log import RunLog
from steepest.train._trial import Choices

FOLDER = tempfile.TemporaryDirectory(prefix="public")
atexit.register(FOLDER.cleanup)


def trial() -> Trial:
    choices = Choices(optimizer=sgd, init=He(), lr=0.1, seed=0, steps=10, schedule=None, warmup=0, device="cpu")
    return Trial(choices, RunLog(tempfile.mkstemp(dir=FOLDER.name)[1]))


def program(trial: Trial) -> None:
    network = model()
    trial.initialize(network)
    optimizer = trial.optimizer(network.to(trial.device))
    steps = trial.steps or 2
    scheduler = trial.scheduler(optimizer, steps)
    for _ in range(min(steps, 3)):
        network(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        scheduler.step()
    trial.report(min(steps, 3), loss=1.0)


def entered(context):
    with context:
        pass


NETWORK = model()
MODULE = (NETWORK, OBJECT)
LINE = Fresh(lambda: sgd(NETWORK, 0.1))


def fault() -> Fault:
    return Fault(kind="slow", worker=1, step=2)


def history() -> History:
    costs = {"seconds": [0.0], "duration": 1.0, "seconds_per_step": 1.0, "state_bytes": 0}
    return History(steps=[0], valid_loss=[1.0], valid_metrics={}, diverged=False, **costs)


def group() -> GroupRun:
    nothing = {"losses": [], "exchanges": [], "events": [], "paces": []}
    return GroupRun(workers=2, scheme=Ring(), parameters={"float32": 3}, survivors=(0, 1), agrees=True, **nothing)


TABLE: dict[str, Row | Result] = {
    "train.Fault": row(
        kind=("kill", choice()),
        worker=(1, whole(0).but("None")),
        step=(2, whole(0)),
        length=(None, number("(0, inf)").but("None")),
        factor=(10.0, number("(1, inf)")),
        receiver=fault,
    ),
    "train.Fault.parse": row(kind=("kill", choice()), text=("2@50", TEXT.also("''", "'x'"))),
    "train.GroupRun": Result(group),
    "train.TrainingRun": Result(lambda: TrainingRun(history=history(), task_name="mine", settings={}, group=group())),
    "train.Program": row(run=(program, FUNCTION), name=("mine", TEXT), receiver=lambda: Program(program)),
    "train.Trial": Result(trial),
    "train.Trial.initialize": row(model=MODULE, data=(None, anything("a model may take anything"))),
    "train.Trial.optimizer": row(model=MODULE),
    "train.Trial.scheduler": row(optimizer=(LINE, OBJECT.also("module")), steps=(5, whole(1).but("None"))),
    "train.Trial.watch": row(
        then=entered, model=MODULE, optimizer=(LINE, OBJECT.but("None", "[]", "{}")), every=(2, whole(1).but("None"))
    ),
    "train.Trial.report": row(
        step=(3, whole(0, 10)),
        loss=(0.5, number("(-inf, inf)")),
        metrics=(0.5, number("[-inf, inf]").but("nan", "numpy nan")),
        nan="a metric may be undefined",
    ),
    "train.run_program": row(
        costly=("1e300", "10**400"),
        program=(program, FUNCTION),
        optimizer=(sgd, FUNCTION),
        init=("he", TEXT.also("''", "'x'")),
        lr=(0.1, number("[0, inf)")),
        seed=(0, whole(0)),
        steps=(2, whole(1).but("None")),
        schedule=("cosine", replace(choice().but("None", "int", "a function"), called=True)),
        warmup=(0, whole(0).but("0.5", "'0'").also("''", "'x'")),
        device=("cpu", OBJECT.also("''")),
    ),
}
