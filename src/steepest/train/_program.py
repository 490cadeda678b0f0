"""One run of a training program of the user's own."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim.optimizer import Optimizer

from steepest._check import at_least, function, in_range, instance
from steepest._check import device as check_device
from steepest._contained import contained
from steepest._random import seeded
from steepest.diagnose import Diagnosis
from steepest.errors import InvalidArgument, TaskError
from steepest.init import Default, Initializer, resolve_scheme
from steepest.train._history import History
from steepest.train._run_log import RunLog
from steepest.train._schedules import Schedule, check_warmup, resolve_schedule, warmup_steps
from steepest.train._trial import NON_FINITE, Choices, Trial

__all__ = ["Program", "run_program"]

# By what is in the log of a program that does so: what is to be used, how, and what to do.
_TAKEN_UP = {
    "step": (
        "optimizer",
        "step of trial.optimizer(model)",
        "Make it by the line optimizer = trial.optimizer(model), and call its step().",
    ),
    "init": (
        "init",
        "call of trial.initialize(model)",
        "Add the line trial.initialize(model) before the optimizer is made, or leave out --inits (inits=).",
    ),
    "steps": (
        "steps",
        "use of trial.steps",
        "Train by for step in range(trial.steps), or leave out --steps (steps=).",
    ),
    "schedule": (
        "schedule and warm-up",
        "step of trial.scheduler(optimizer)",
        "Add the line scheduler = trial.scheduler(optimizer) and call its step() after each optimizer.step(), "
        "or leave out --schedule and --warmup (schedule=, warmup=).",
    ),
    "device": (
        "device",
        "use of trial.device",
        "Add the line model.to(trial.device), or leave out --device (device=).",
    ),
}


@dataclass(frozen=True)
class Program:
    """A training program of the user's own, for a loop that stays as it is.

    Args:
        run: run(trial): trains once with trial.optimizer(model), and calls trial.report(step, loss=...); see `Trial`.
        name: Its name in reports; by default the function's, and of one called run, main or train its module's.

    Raises:
        InvalidArgument: If run is no function of one argument, or name no string.

    >>> def resnet(trial): ...
    >>> Program(resnet).name
    'resnet'
    """

    run: Callable[[Trial], object]
    name: str = ""

    def __post_init__(self) -> None:
        rule = "a program must be a function of one argument, the trial"
        if not callable(self.run):
            raise InvalidArgument(rule, got=self.run, remedy="Write it as def run(trial).")
        try:
            signature = inspect.signature(self.run)
        except ValueError:  # a function in C may have none
            signature = None
        try:
            _ = signature and signature.bind(None)
        except TypeError:
            remedy = "Write it as def run(trial), and give other arguments values with functools.partial."
            raise InvalidArgument(rule, got=f"{_name(self.run)}{signature}", remedy=remedy) from None
        instance("a program's name", self.name, str, "a string")
        object.__setattr__(self, "name", self.name or _name(self.run))


def _name(run: Any) -> str:
    name = str(getattr(run, "__name__", type(run).__name__))
    module = str(getattr(run, "__module__", None) or "").rpartition(".")[2]
    return module if name in ("run", "main", "train") and module not in ("", "__main__", "__mp_main__") else name


def run_program(
    program: Program | Callable[[Trial], object],
    optimizer: Callable[[nn.Module, float], Optimizer],
    init: str | Initializer = "default",
    *,
    lr: float,
    seed: int,
    steps: int | None = None,
    schedule: Schedule | None = None,
    warmup: int | float | str = 0,
    device: str = "cpu",
) -> History:
    """Run a training program once and return its history, as `train` does with a task.

    While it runs, the global random number generators of torch, numpy and Python are seeded with the seed. Whether the
    same seed gives the same result depends on the program. A reported loss that is not finite, a `NonFiniteGradient`
    and a `torch.linalg.LinAlgError` end the run as diverged.

    Times are those of the reports: `History.seconds` is counted from when the optimizer is made, and includes the
    program's own validation, as does seconds_per_step.

    Args:
        program: A `Program`, or its function run(trial).
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name; "default" leaves the model as the program makes it.
        lr: The learning rate at the start, >= 0.
        seed: Any integer >= 0.
        steps: The number of steps, at least 1; None leaves it to the program.
        schedule: A name in `SCHEDULES` or a function of progress (0 to 1); None for cosine, if the program asks.
        warmup: Steps over which the learning rate rises to lr, or their share of the run, as 0.05 or "5%".
        device: The device to train on.

    Returns:
        The curves of the reports, and costs.

    Raises:
        UnknownName: If there is no such init or schedule.
        InvalidArgument: If another argument is outside its range, or a report is.
        TaskError: If the program never reports, does not train with the optimizer of the trial, or never takes up an
            init, steps, schedule, warm-up or device that was chosen; or if it tries to end Python.
    """
    program = program if isinstance(program, Program) else Program(program)
    function("optimizer", optimizer)
    scheme = resolve_scheme(init)
    if schedule is not None:
        resolve_schedule(schedule)
    if steps is not None:
        warmup_steps(warmup, steps)
    choices = Choices(
        optimizer=optimizer,
        init=scheme,
        lr=in_range("lr", lr, "[0, inf)"),
        seed=at_least("seed", seed, 0, most=2**63 - 1),
        steps=None if steps is None else at_least("steps", steps, 1),
        schedule=schedule,
        warmup=check_warmup(warmup),
        device=check_device("device", device),
    )
    failure: Exception | None = None
    with tempfile.TemporaryDirectory(prefix="steepest-") as folder:
        path = Path(folder, "log")
        path.touch()
        log = RunLog(str(path))
        began = time.monotonic()
        try:
            with contained("run(trial)"), _all_seeded(choices.seed, choices.device):
                program.run(Trial(choices, log))
        except Exception as error:
            failure = error
        duration = time.monotonic() - began
        log.read()
    if not log.diverged:
        _require(log, choices, failure)
    return _history(log, began, duration, diverged=log.diverged or failure is not None)


@contextlib.contextmanager
def _all_seeded(seed: int, device: str) -> Generator[None]:
    """Seed the global generators of torch, numpy and Python, and restore them after."""
    kept = random.getstate(), np.random.get_state()
    with seeded(seed, device):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])


def _require(log: RunLog, choices: Choices, failure: Exception | None) -> None:
    """Check that a program has trained and reported as a trial needs it.

    Raises:
        InvalidArgument: If a report was refused.
        TaskError: If the program has not reported, or has ignored a choice.
        Exception: Whatever the program has raised, unless that is how it diverged.
    """
    if log.refused is not None and not isinstance(failure, InvalidArgument):
        raise log.refused from failure
    if failure is not None:
        if not (log.step_failed or isinstance(failure, NON_FINITE)):
            raise failure
        return
    if not log.reports:
        raise TaskError(
            "a program must report its validation loss",
            got="no report",
            remedy="Add the line trial.report(step, loss=...) at its end.",
        )
    for what, is_chosen in (
        ("step", True),
        ("init", not isinstance(choices.init, Default)),
        ("steps", choices.steps is not None),
        ("schedule", choices.schedule is not None or choices.warmup != 0),
        ("device", choices.device != "cpu"),
    ):
        if is_chosen and what not in log.used:
            chosen, missing, remedy = _TAKEN_UP[what]
            raise TaskError(f"a program must use the {chosen} of the trial", got=f"no {missing}", remedy=remedy)


def _history(log: RunLog, began: float, duration: float, *, diverged: bool) -> History:
    """Return the history of a program that has ended."""
    start = began if math.isnan(log.began) else log.began
    steps = [report["step"] for report in log.reports]
    losses = [float(report["loss"]) for report in log.reports]
    metrics = [report["metrics"] for report in log.reports]
    times = [max(0.0, report["time"] - start) for report in log.reports]
    if diverged and not log.diverged:  # by an exception
        steps, losses = [*steps, steps[-1] + 1 if steps else 0], [*losses, math.inf]
        metrics, times = [*metrics, {}], [*times, max(0.0, began + duration - start)]
    passed = [(0, 0.0), *zip(steps, times, strict=True)]
    per_step = [(t1 - t0) / (s1 - s0) for (s0, t0), (s1, t1) in itertools.pairwise(passed) if s1 > s0]
    watched = dict(log.watched)
    if watched:
        found: dict[str, Any] = watched["diagnosis"]
        found |= {name: tuple(found[name]) for name in ("evidence", "parameters")}
        watched["diagnosis"] = Diagnosis(**found)
    return History(
        steps=steps,
        valid_loss=losses,
        valid_metrics={
            name: [float(each.get(name, math.nan)) for each in metrics]
            for name in dict.fromkeys(name for each in metrics for name in each)
            if diverged or name in metrics[-1]  # the last report counts
        },
        diverged=diverged,
        seconds=times,
        duration=duration,
        seconds_per_step=statistics.median(per_step) if per_step else math.nan,
        state_bytes=max((report["state_bytes"] for report in log.reports), default=0),
        **watched,
    )
