"""Training with several workers: the process that starts them, and puts together what they tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from steepest._check import at_least, boolean, function, instance
from steepest.communication import Deadlines, GroupEvent, ParameterServer, Scheme
from steepest.communication._processes import Processes
from steepest.errors import InvalidArgument
from steepest.estimators import GradientSource
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train._distributed.faults import Fault
from steepest.train._distributed.launcher import Launcher
from steepest.train._distributed.records import Records
from steepest.train._distributed.result import GroupRun, TrainingRun
from steepest.train._distributed.settings import Settings
from steepest.train._schedules import Schedule, warmup_steps
from steepest.train._set_up import steps_within
from steepest.train._settings import checked
from steepest.train._validations import validation_steps

__all__ = ["PRELOAD", "settings_of", "train_distributed"]

PRELOAD = ("steepest.train", "steepest.optim", "torch._dynamo")
"""What every worker imports; torch's optimizers import its compiler at their first step."""


def train_distributed(
    task: Task,
    optimizer: Callable[[nn.Module, float], Optimizer],
    init: str | Initializer,
    *,
    lr: float,
    seed: int,
    workers: int,
    scheme: Scheme,
    steps: int | None = None,
    evaluations: int | None = None,
    schedule: Schedule = "cosine",
    warmup: int | float | str = 0,
    validations: int | Sequence[int] | None = None,
    gradient: GradientSource | str | None = None,
    device: str = "cpu",
    faults: Sequence[Fault] = (),
    replace: bool = False,
    deadlines: Deadlines | None = None,
    progress: Callable[[int, int], object] | None = None,
    observe: Callable[[GroupEvent], object] | None = None,
) -> TrainingRun:
    """Train a task once, with several workers in processes of this machine that survive each other's death.

    Every step takes the batch that `train` would take. Each worker computes the gradient of its share, and the mean
    over all examples of the batch is averaged by the scheme: g = sum_i (n_i / n) g_i for shares of n_i of n examples.
    When a worker dies, or is left out because it is silent or too slow, the others take over its share, and repeat the
    step under way unless one of them has completed it; see `steepest.communication.ElasticGroup`.

    With a gradient source other than backpropagation each worker estimates the gradient of its share, with random
    numbers of its own that follow from the seed, the step and its rank; together, the evaluations of all shares are one
    of the batch. The number of steps is fixed by the cost of the first.

    Args:
        task: The task to train.
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name.
        lr: The largest learning rate, >= 0.
        seed: Any integer >= 0; it determines the weights and the batches, as in `train`.
        workers: The number of workers, >= 1, each a process; `ParameterServer()` adds one for the server.
        scheme: How they average gradients.
        steps: Training steps, at least 1; the task's own number by default.
        evaluations: As for `train`.
        schedule: As for `train`.
        warmup: As for `train`.
        validations: As for `train`; all workers validate.
        gradient: As for `train`.
        device: The device to train on.
        faults: What the run does to its workers, to show what it costs.
        replace: Whether a worker that died is replaced by a new process.
        deadlines: How long the workers wait for each other; None for the default.
        progress: Called with the number of steps taken and of all, a few times a second.
        observe: Called with each event of the group, as each worker sees it.

    Returns:
        The curves, what was sent, and what happened.

    Raises:
        InvalidArgument: If an argument is outside its range.
        WorkerFailed: If a worker raised an exception, with its traceback as the cause, or none survived.
    """
    entered = time.perf_counter()
    settings = settings_of(
        task,
        optimizer,
        init,
        lr=lr,
        seed=seed,
        scheme=scheme,
        steps=steps,
        evaluations=evaluations,
        schedule=schedule,
        warmup=warmup,
        validations=validations,
        gradient=gradient,
        device=device,
        faults=faults,
        deadlines=deadlines,
        threads=max(1, (os.cpu_count() or 1) // at_least("workers", workers, 1)),
    )
    scheme.cost(workers, 0)  # refuses a server that is none of them
    boolean("replace", replace)
    for name, called in {"progress": progress, "observe": observe}.items():
        if called is not None:
            function(name, called)
    separate = isinstance(scheme, ParameterServer) and scheme.server is None
    _check_faults(settings.faults, workers, separate, settings.steps)
    with Processes(preload=PRELOAD) as processes:
        launcher = Launcher(processes, settings, workers, has_server=separate, replaces=replace)
        launcher.progress, launcher.observe = progress, observe
        records = launcher.run()
    return result_of(records, settings, workers, time.perf_counter() - entered)


def settings_of(
    task: Task,
    optimizer: Any,
    init: Any,
    *,
    scheme: Scheme,
    faults: Sequence[Fault] = (),
    deadlines: Deadlines | None = None,
    threads: int = 1,
    **options: Any,
) -> Settings:
    """Return the checked settings of a run.

    Args:
        task: The task.
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name.
        scheme: How workers average gradients.
        faults: What the run does to its workers.
        deadlines: How long the workers wait for each other.
        threads: Threads of each worker's operations.
        **options: Further arguments of `train`.
    """
    found = checked(task, optimizer, init, **options)
    instance("scheme", scheme, Scheme, "a scheme of steepest.communication", remedy="Pass for example Ring().")
    for fault in instance("faults", faults, (tuple, list), "a list of Faults"):
        instance("faults", fault, Fault, "a list of Faults")
    if found["evaluations"] is not None:
        found["steps"] = steps_within(task, found["gradient"], 1, found["evaluations"])
        found["evaluations"] = None
        warmup_steps(found["warmup"], found["steps"])
    return Settings(
        **found,
        looks=validation_steps(found["validations"], task.validations, found["steps"]),
        scheme=scheme,
        faults=tuple(faults),
        deadlines=None if deadlines is None else instance("deadlines", deadlines, Deadlines, "Deadlines"),
        threads=threads,
    )


def _check_faults(faults: Sequence[Fault], workers: int, has_server: bool, steps: int) -> None:
    for fault in faults:
        if fault.worker is None and not has_server:
            raise InvalidArgument(
                f"a {fault.kind} of the server needs a separate one",
                got="another scheme",
                remedy="Pass scheme=ParameterServer() (--scheme parameter-server).",
            )
        if fault.worker is not None and fault.worker >= workers:
            raise InvalidArgument(
                f"the worker of a fault must be one of 0 to {workers - 1}", got=fault.worker, remedy="Pass its number."
            )
        if fault.step >= steps:
            raise InvalidArgument(f"the step of a fault must be less than the number of steps, {steps}", got=fault.step)


def result_of(records: Records, settings: Settings, workers: int, duration: float) -> TrainingRun:
    """Return the result of what the workers have told."""
    group = GroupRun(
        workers=workers,
        scheme=settings.scheme,
        parameters=next(iter(records.finished.values())).sizes,
        losses=records.losses,
        exchanges=records.exchanges,
        events=sorted(records.events, key=lambda event: event.time),
        paces=records.paces,
        survivors=tuple(sorted(records.finished)),
        agrees=len({each.digest for each in records.finished.values()}) == 1,
    )
    return TrainingRun(
        history=records.history(duration), task_name=settings.task.name, settings=settings.in_words, group=group
    )
