"""What the fair trial costs over its training runs: `steepest.compare.compare`, a plain loop, and Optuna.

The task is as small as can be (a linear model, 30 steps), so that what is not training shows. The plain loop calls
`steepest.train.train` on the very runs that the comparison made; the two Optuna studies run them from their queue in
a database file of their own, one keeping the loss only, the other the whole history, as the comparison does.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from torch import nn

from benchmarks.harness import Candidate, Row, Table, interleave, milliseconds, ratio
from steepest.compare import CANDIDATES, Run, compare
from steepest.tasks import Task, accuracy, digits
from steepest.train import History, train

ROUNDS = 3
OPTIMIZERS = ("sgd", "adamw")
OURS, LOOP = "steepest.compare", "plain loop over train"


def run() -> Table:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = digits()
    task = Task(
        name="linear",
        model=lambda: nn.Linear(64, 10),
        loss=nn.functional.cross_entropy,
        train=data.train,
        valid=data.valid,
        metric=accuracy,
        batch_size=100,
        steps=30,
    )
    with tempfile.TemporaryDirectory() as folder:
        storage = _fresh_files(Path(folder))
        runs = compare(task, OPTIMIZERS, seeds=3, workers=1, storage=storage()).runs  # which warms up all there is
        candidates = {
            OURS: lambda: compare(task, OPTIMIZERS, seeds=3, workers=1, storage=storage()),
            f"{OURS}, in memory": lambda: compare(task, OPTIMIZERS, seeds=3, workers=1),
            LOOP: lambda: [_train(task, run) for run in runs],
            "optuna, loss only": lambda: _optuna(task, runs, storage(), keep_history=False),
            "optuna, history kept": lambda: _optuna(task, runs, storage(), keep_history=True),
        }
        seconds = interleave(
            {name: Candidate(function) for name, function in candidates.items()}, ROUNDS, warm_up=False
        )

    def row(name: str) -> Row:
        cpu, wall = seconds[name].cpu, seconds[name].wall
        over_cpu, over_wall = (
            [a - b for a, b in zip(mine, loop, strict=True)]
            for mine, loop in ((cpu, seconds[LOOP].cpu), (wall, seconds[LOOP].wall))
        )
        n = len(runs)
        overheads = (
            ("", "", "")
            if name == LOOP
            else (milliseconds(over_cpu, n), milliseconds(over_wall, n), ratio(cpu, seconds[LOOP].cpu))
        )
        against = "" if name == OURS else ratio(seconds[OURS].cpu, cpu)
        return (name, milliseconds(cpu, n), *overheads, against)

    return Table(
        title="What a comparison costs over its training runs",
        method=f"{len(runs)} runs (a linear model on the digits, 30 steps, a validation after each; sgd and adamw, 3 "
        f"final seeds, one worker) as one comparison on an SQLite file, and the same runs otherwise; in turns, median "
        f"of {ROUNDS} rounds (and quartiles of the ratios), CPU time unless it says wall.",
        columns=("runs made by", "ms a run", "over the loop", "over the loop, wall", "/ loop", "steepest / this"),
        rows=[row(name) for name in candidates],
        packages=("optuna", "sqlalchemy"),
    )


def _fresh_files(folder: Path) -> Callable[[], str]:
    """Return a function that names a new database file at each call."""
    count = iter(range(1_000_000))
    return lambda: f"sqlite:///{folder / str(next(count))}.db"


def _train(task: Task, run: Run) -> History:
    return train(task, CANDIDATES[run.cell.optimizer].build, run.cell.init, lr=run.lr, seed=run.seed)


def _optuna(task: Task, runs: Sequence[Run], storage: str, *, keep_history: bool) -> None:
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    for run in runs:
        study.enqueue_trial({"optimizer": run.cell.optimizer, "learning_rate": run.lr, "seed": run.seed})

    def objective(trial: optuna.Trial) -> float:
        optimizer = trial.suggest_categorical("optimizer", OPTIMIZERS)
        lr = trial.suggest_float("learning_rate", 1e-12, 1e12, log=True)
        seed = trial.suggest_int("seed", 0, 2**31)
        history = train(task, CANDIDATES[optimizer].build, task.init, lr=lr, seed=seed)
        if keep_history:
            trial.set_user_attr("history", json.dumps(dataclasses.asdict(history)))
        return history.valid_loss[-1]

    study.optimize(objective, n_trials=len(runs))
