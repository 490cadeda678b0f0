"""One training run: the loop in which the packages meet."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest._check import at_least, function, in_range, instance
from steepest._check import device as check_device
from steepest._contained import contained, last_line
from steepest._frozen import frozen_names
from steepest._random import seeded
from steepest._schedule import Schedule
from steepest.diagnose import Diagnosis, Monitor
from steepest.errors import InvalidArgument, NonFiniteGradient, TaskError, UnknownName
from steepest.init import Initializer, initialize
from steepest.tasks import Task
from steepest.tasks._own_loss import with_own_loss

__all__ = ["SCHEDULES", "FeatureChange", "History", "Spectrum", "train"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
"""By name: the factor of the learning rate at each progress from 0 (the first step) to 1 (after the last)."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The singular values of a network's feature matrix, d outputs / d parameters.

    Attributes:
        singular_values: Descending.
        rank: How many exceed the threshold.
        threshold: What is below is rounding errors.
        effective_rank: The sum of s^2 / (s^2 + s_1^2 / 1000).
    """

    singular_values: list[float] = field(repr=False)
    rank: int
    threshold: float
    effective_rank: float


@dataclass(frozen=True, kw_only=True)
class FeatureChange:
    """A network's features at initialisation and at the end of a run.

    Attributes:
        examples: Training examples at which they were looked at.
        rows: Their outputs together.
        columns: Trainable parameters.
        start: The spectrum at initialisation.
        end: That at the end.
        kernel_alignment: The cosine between the two kernels.
        kernel_change: The norm of the kernels' difference over that of the first.
        regime: "lazy", "between" or "feature learning".
    """

    examples: int
    rows: int
    columns: int
    start: Spectrum
    end: Spectrum
    kernel_alignment: float
    kernel_change: float
    regime: str


@dataclass(frozen=True, kw_only=True)
class History:
    """What one run left: curves as lists of numbers, and what it cost.

    Attributes:
        steps: The steps after which the model was validated, 0 first.
        train_loss: Loss of the batch at the recorded steps `gradient_steps`.
        valid_loss: Mean validation loss at `steps`; infinite once the run diverged.
        valid_metric: Mean metric at `steps`; nan without a metric.
        gradient_steps: The steps at which gradients were recorded.
        mean_gradient_norm: Mean over the parameters of the L2 norm of each one's gradient.
        gradient_norm: The L2 norm of the gradient of each parameter, by name.
        diagnosis: Why it did not train, or that it is healthy.
        diverged: Whether the loss or a gradient stopped being finite.
        seconds_per_step: Time of a training step without validation, the median over the stretches between validations.
        state_bytes: Bytes of the optimizer's tensors at the end.
        features: How the network's features changed, or why that cannot be said; None where nobody looked.
        remarks: What a person should know about the run, as sentences: that somebody else set the learning rate.
    """

    steps: list[int]
    train_loss: list[float]
    valid_loss: list[float]
    valid_metric: list[float]
    gradient_steps: list[int]
    mean_gradient_norm: list[float]
    gradient_norm: dict[str, list[float]] = field(repr=False)
    diagnosis: Diagnosis
    diverged: bool
    seconds_per_step: float
    state_bytes: int
    features: FeatureChange | str | None = None
    remarks: list[str] = field(default_factory=list[str])


def train(
    task: Task,
    optimizer: Callable[[nn.Module, float], Optimizer],
    init: str | Initializer,
    *,
    lr: float,
    seed: int,
    steps: int | None = None,
    schedule: str = "cosine",
    validations: int | Sequence[int] = 30,
    device: str = "cpu",
    observe: Callable[[int, nn.Module], object] | None = None,
) -> History:
    """Train a task once and return what happened; the same seed gives the same bits on the same machine.

    The seed decides the starting weights, the order of the data and the model's own noise (dropout), each by
    a generator of its own, so that runs of different optimizers with one seed are paired. A loss or gradient
    that is no longer finite ends the run as diverged.

    Args:
        task: What is trained.
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name.
        lr: The learning rate at the start, >= 0.
        seed: Any integer >= 0.
        steps: Training steps, at least 1; the task's own number by default.
        schedule: A name in `SCHEDULES`: "cosine" (lr (1 + cos(pi t / steps)) / 2), or "constant", which leaves alone
            what the optimizer's own schedule does with its rates.
        validations: How many times to validate after the start, at most; evenly spread, and after the last step. Or
            after which steps; after the last one in any case.
        device: Where to train.
        observe: observe(step, model), called at step 0 after the init and at each validation with a finite loss, with
            the model in evaluation mode, outside of what is timed. The random numbers that it draws leave no trace.

    Returns:
        The curves and costs of the run.

    Raises:
        UnknownName: If there is no such init or schedule, or what a task calls frozen is not in its model.
        InvalidArgument: If another argument is outside its range.
        TaskError: If a parameter that is frozen has moved, or somebody's code tries to end the program.
    """
    instance("task", task, Task, "a steepest.tasks.Task")
    function("optimizer", optimizer)
    if instance("schedule", schedule, str, "the name of a schedule") not in SCHEDULES:
        raise UnknownName.among("schedule", schedule, SCHEDULES)
    steps = task.steps if steps is None else at_least("steps", steps, 1)
    seed = at_least("seed", seed, 0, most=2**63 - 1)
    lr = in_range("lr", lr, "[0, inf)")
    device = check_device("device", device)
    if observe is not None:
        function("observe", observe)
    looks = _validation_steps(validations, steps)
    batches = task.batches(torch.Generator().manual_seed(seed))
    every = math.ceil(steps / len(looks))
    validated, losses, metrics, times = [0], [], [], []

    def validate() -> bool:
        loss, metric = task.evaluate(model, device)
        losses.append(loss if math.isfinite(loss) else math.inf)
        metrics.append(metric)
        if observe is not None and math.isfinite(loss):
            model.eval()
            with seeded(seed, device):
                observe(validated[-1], model)
            model.train()
        return math.isfinite(loss)

    with contextlib.ExitStack() as stack:
        stack.enter_context(contained("a task, optimizer or init"))
        task = with_own_loss(task)
        model = task.build(seed)
        frozen = frozen_names(model, task.frozen)
        untouched = {name: _bits(parameter) for name, parameter in model.named_parameters() if name in frozen}
        stack.enter_context(seeded(seed, device))
        first = next(batches)  # the init may look at it, and training begins with it
        initialize(model, init, torch.Generator().manual_seed(seed), tuple(first[:-1]))
        model.to(device).train()
        stepper = _made(optimizer, model, lr)
        rates = Schedule(stepper, None if schedule == "constant" else SCHEDULES[schedule])
        rates.set(0.0)
        monitor = stack.enter_context(Monitor(model, stepper, every, frozen=task.frozen))
        finite = validate()
        start, since = _clock(device), 0
        for step, drawn in zip(range(steps if finite else 0), itertools.chain([first], batches), strict=False):
            batch = [tensor.to(device) for tensor in drawn]
            stepper.zero_grad()
            loss = task.batch_loss(model, batch)
            loss.backward()
            try:
                stepper.step()
            except (NonFiniteGradient, torch.linalg.LinAlgError):
                finite = False
            monitor.record(step, loss, target=batch[-1])
            rates.set((step + 1) / steps)
            if not finite or step + 1 in looks:
                validated.append(step + 1)
                times.append((_clock(device) - start) / (step + 1 - since))
                finite = finite and validate()
                start, since = _clock(device), step + 1
            if not finite:
                break
    parameters = dict(model.named_parameters())
    for name, bits in untouched.items():
        if name not in parameters or not torch.equal(bits, _bits(parameters[name])):
            raise TaskError(
                "what is frozen must not move",
                got=name,
                remedy="Look for what writes into it: the model's forward, a hook, the init or the optimizer.",
            )
    if len(losses) < len(validated):  # a gradient that was not finite ended the run before it could be validated
        losses.append(math.inf)
        metrics.append(math.nan)
    history = monitor.history
    return History(
        steps=validated,
        train_loss=history["loss"],
        valid_loss=losses,
        valid_metric=metrics,
        gradient_steps=history["step"],
        mean_gradient_norm=history["mean_gradient_norm"],
        gradient_norm=history["gradient_norm"],
        diagnosis=monitor.diagnosis(),
        diverged=not finite,
        seconds_per_step=statistics.median(times) if times else math.nan,
        state_bytes=sum(
            value.numel() * value.element_size()
            for state in stepper.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ),
        remarks=[] if rates.foreign is None else [_about_rates(*rates.foreign, schedule)],
    )


def _made(optimizer: Callable[[nn.Module, float], Any], model: nn.Module, lr: float) -> Optimizer:
    rule, remedy = (
        "optimizer must be a function (model, lr) that makes an optimizer",
        "See steepest.compare.CANDIDATES.",
    )
    try:
        made = optimizer(model, lr)
    except TypeError as error:
        raise InvalidArgument(rule, got=last_line(error), remedy=remedy) from error
    if not isinstance(made, Optimizer):
        raise InvalidArgument(rule, got=made, remedy=remedy)
    return made


def _about_rates(found: float, expected: float, schedule: str) -> str:
    leaves = "leaves it alone" if schedule == "constant" else f"overrules it; schedule={'constant'!r} would not"
    return (
        f"The learning rate is not the one that was set ({found:.3g} instead of {expected:.3g}): the optimizer has a "
        f"schedule of its own, and the trial's, {schedule}, {leaves}."
    )


def _validation_steps(validations: int | Sequence[int], steps: int) -> frozenset[int]:
    """Return the steps after which to validate.

    Raises:
        InvalidArgument: If there is none, or one that is not among the run's.
    """
    if not isinstance(validations, Sequence):
        every = math.ceil(steps / at_least("validations", validations, 1))
        return frozenset({*range(every, steps, every), steps})
    for step in validations:
        at_least("validations after the start", step, 1, most=steps, remedy="The start is validated anyway.")
    return frozenset({*validations, steps})


def _bits(parameter: nn.Parameter) -> Tensor:
    """Return a copy of the bytes of a parameter."""
    return parameter.detach().cpu().contiguous().flatten().view(torch.uint8).clone()


def _clock(device: str) -> float:
    """Return the time in seconds once the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
