"""Tangent features over a training run, as an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steepest._check import at_least, in_range, instance
from steepest.errors import InvalidArgument, TaskError
from steepest.features._constant import constant_loss
from steepest.features._examples import number_of_examples, outputs_of, spread_examples
from steepest.features._result import Features
from steepest.features._snapshots import Snapshots
from steepest.tasks import TASKS, Task, load
from steepest.train import Observer, train

__all__ = ["features"]

_SNAPSHOTS = 16
_ROWS = 1000
"""The number of outputs, over all examples together, that are linearised by default."""

_COURSE: dict[str, Any] = {"width": 40, "depth": 2}
_COURSE_STEPS = 150_000


def features(
    task: Task | str = "curve",
    *,
    width: int | None = None,
    depth: int | None = None,
    steps: int | None = None,
    lr: float = 0.02,
    seed: int = 0,
    examples: int | None = None,
    observe: Observer | Sequence[Observer] = (),
) -> Features:
    """Train a network with SGD and return its tangent features from initialisation to the end.

    The tangent features of an example x are the rows of J(x) = d f(x) / d theta, and their inner products are the
    empirical neural tangent kernel (NTK; Jacot et al. 2018, arXiv:1806.07572). They are computed at 16 steps, equally
    spaced in the logarithm of the step.

    Args:
        task: A `Task`, the name of a built-in one, or `module:attribute`.
        width: Units per hidden layer of a built-in task, >= 1; None for 40 with curve, else the task's own.
        depth: Number of its hidden layers, >= 1; None for 2 with curve, else the task's own.
        steps: Training steps, at least 1; None for 150,000 with curve, else the task's own.
        lr: The learning rate, constant, > 0.
        seed: The seed of the initial weights and of the data order, >= 0.
        examples: The number of training examples at which the network is linearised, equally spaced in the data; None
            for all, or for as many as have 1,000 outputs together.
        observe: Further observers of the run, see `steepest.train.train`.

    Returns:
        The linearizations and the results derived from them; `steepest.report.write` makes a page of them.

    Raises:
        UnknownName: If there is no such built-in task.
        ImportFailed: If a `module:attribute` cannot be imported.
        TaskError: If the task cannot be trained, or its loss is not finite at the start.
        InvalidArgument: If a number is outside its range, or width or depth is given with your own task.
        SteepestError: If the network cannot be linearised at the start.

    >>> result = features(steps=2, width=4, depth=1, examples=10)
    >>> [snapshot.step for snapshot in result.snapshots.found]
    [0, 1, 2]
    """
    is_course = isinstance(task, str) and task == "curve"
    chosen = _task(task, width, depth)
    steps = (_COURSE_STEPS if is_course else chosen.steps) if steps is None else at_least("steps", steps, 1)
    seed = at_least("seed", seed, 0)
    lr = in_range("lr", lr, "(0, inf)", remedy="Pass for example 0.02.")
    chosen.check()
    *inputs, target = _examples(chosen, seed, examples)
    snapshots = Snapshots(tuple(inputs), target, steps * lr, _span(chosen))
    others = observe if isinstance(observe, Sequence) else (observe,)
    history = train(
        chosen,
        lambda model, lr: torch.optim.SGD(model.parameters(), lr=lr),
        chosen.init,
        lr=lr,
        seed=seed,
        steps=steps,
        schedule="constant",
        validations=_observed(steps),
        observe=(snapshots, *others),
    )
    if not snapshots.found:
        raise TaskError("the loss must be finite at the start", got=history.valid_loss[0], remedy="Try another init.")
    return Features(
        snapshots=snapshots,
        task_name=chosen.name,
        losses=dict(zip(history.steps, history.valid_loss, strict=True)),
        settings={
            "parameters": f"{snapshots.linearization.shape[1]:,}",
            "examples": f"{len(target):,}",
            "SGD with learning rate": f"{lr:g}",
            "steps": f"{steps:,}",
            "minibatch": str(chosen.batch_size),
            "init": chosen.init,
            "seed": str(seed),
        },
        diverged=history.diverged,
        constant_loss=constant_loss(chosen),
    )


def _task(task: Task | str, width: int | None, depth: int | None) -> Task:
    given = {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    for key, value in given.items():
        at_least(key, value, 1)
    if not isinstance(task, str) or task not in TASKS:
        found = load(task) if isinstance(task, str) else instance("task", task, Task, "a Task or the name of one")
        if given:
            raise InvalidArgument(
                f"{' and '.join(given)} must be left out with a task of your own",
                got=task if isinstance(task, str) else task.name,
                remedy="It has its own model.",
            )
        return found
    make: Callable[..., Task] = TASKS[task]
    return make(**({**_COURSE, **given} if task == "curve" else given))


def _examples(task: Task, seed: int, count: int | None) -> tuple[Tensor, ...]:
    size = number_of_examples(task)
    if count is None:
        count = min(size, max(1, _ROWS // outputs_of(task.build(seed).eval(), task)))
    return spread_examples(task, at_least("examples", count, 1, most=size, remedy=f"There are {size} for training."))


def _span(task: Task) -> tuple[float, float] | None:
    """Return the range of the inputs, if the data are tensors with one number per example."""
    inputs: list[Tensor] = [data[0] for data in (task.train, task.valid) if isinstance(data, tuple)]
    if len(inputs) < 2 or any(x[0].numel() != 1 for x in inputs):
        return None
    return min(float(x.min()) for x in inputs), max(float(x.max()) for x in inputs)


def _observed(steps: int) -> list[int]:
    """Return the observed steps after the start: equally spaced in the logarithm, from a thousandth of the run on.

    >>> _observed(8)
    [1, 2, 3, 4, 5, 6, 7, 8]
    """
    first, count = max(1.0, steps / 1000), _SNAPSHOTS - 2
    return sorted({round(first * (steps / first) ** (i / count)) for i in range(count + 1)})
