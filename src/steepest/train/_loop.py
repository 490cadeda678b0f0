"""The training loop, which connects task, init, optimizer and observers."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest._check import at_least, function, in_range, instance
from steepest._check import device as check_device
from steepest._contained import contained
from steepest._frozen import frozen_names
from steepest._random import seeded
from steepest.errors import NonFiniteGradient, TaskError
from steepest.init import Initializer, initialize
from steepest.tasks import Batch, Task
from steepest.tasks._batch import inputs_of, moved, target_of
from steepest.tasks._one_run import for_one_run
from steepest.train._events import End, Event, Observer, Start, Step, Validated
from steepest.train._history import History, Recorder
from steepest.train._optimizer import made
from steepest.train._rates import Rates
from steepest.train._schedules import Schedule, factors, schedule_name, warmup_steps
from steepest.train._validations import validation_steps
from steepest.train._watch import Watch

__all__ = ["train"]


def train(
    task: Task,
    optimizer: Callable[[nn.Module, float], Optimizer],
    init: str | Initializer,
    *,
    lr: float,
    seed: int,
    steps: int | None = None,
    schedule: Schedule = "cosine",
    warmup: int | float | str = 0,
    validations: int | Sequence[int] | None = None,
    device: str = "cpu",
    observe: Observer | Sequence[Observer] = (),
) -> History:
    """Train a task once and return its history; the same seed gives the same bits on the same machine.

    The seed determines the initial weights, the order of the data and the model's own noise (dropout), each through
    a separate generator, so that runs of different optimizers with the same seed are paired. A loss or gradient
    that is no longer finite ends the run as diverged.

    Args:
        task: The task to train.
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name.
        lr: The largest learning rate, >= 0: the one after the warm-up, and at the start without one.
        seed: Any integer >= 0.
        steps: Training steps, at least 1; the task's own number by default.
        schedule: A name in `SCHEDULES`: "cosine" (lr (1 + cos(pi t / steps)) / 2), "linear" (to zero), "wsd" (warm-up,
            stable, decay), or "constant", which without a warm-up does not interfere with a schedule of the
            optimizer's own. Or a function: the factor of lr, given progress from 0 (the first step) to 1 (the end).
        warmup: Steps over which the rate rises linearly from lr/warmup to lr; the schedule runs over the rest. A whole
            number of steps, or a share of the run: 0.05 or "5%".
        validations: The largest number of validations after the start, evenly spaced and including the last step; or
            the steps after which to validate, to which the last step is added. None for the task's own.
        device: The device to train on.
        observe: One or several functions that are called with every event of the run: `Start`, `Validated`, `Step`,
            `End`. Their time at a validation is not counted in seconds_per_step.

    Returns:
        The curves and costs of the run.

    Raises:
        UnknownName: If there is no such init or schedule, or the model has no parameter or module with a name in
            `frozen`.
        InvalidArgument: If another argument is outside its range.
        TaskError: If a frozen parameter has changed, or user code tries to end the program.
    """
    entered = time.perf_counter()
    instance("task", task, Task, "a steepest.tasks.Task")
    function("optimizer", optimizer)
    steps = task.steps if steps is None else at_least("steps", steps, 1)
    seed = at_least("seed", seed, 0, most=2**63 - 1)
    lr = in_range("lr", lr, "[0, inf)")
    device = check_device("device", device)
    looks = validation_steps(validations, task.validations, steps)
    factor = factors(schedule, warmup, steps)
    sets_rates = schedule != "constant" or warmup_steps(warmup, steps) > 0
    recorder, watch = Recorder(), Watch()
    observers: list[Observer] = [recorder, watch, *_observers(observe)]
    times: list[float] = []
    seconds = [0.0]
    lost = dict.fromkeys(task.metrics, math.nan)

    listening: list[Observer] = []

    def tell(event: Event) -> None:
        for observer in listening:
            observer(event)

    def validated(step: int, loss: float, metrics: Mapping[str, float]) -> bool:
        finite = math.isfinite(loss)
        model.eval()
        with seeded(seed, device), watch.paused():
            tell(Validated(step=step, model=model, loss=loss if finite else math.inf, metrics=metrics))
        model.train()
        return finite

    def ended() -> None:
        end = End(diverged=not finite, seconds_per_step=statistics.median(times) if times else math.nan)
        with seeded(seed, device), contextlib.ExitStack() as each:  # all are told, whatever one of them raises
            for observer in reversed(listening):
                each.callback(observer, end)

    with contextlib.ExitStack() as stack:
        stack.enter_context(contained("a task, optimizer or init"))
        task = for_one_run(task, seed)
        batches = task.batches(torch.Generator().manual_seed(seed))
        stack.callback(cast(Any, batches).close)  # processes that load batches end with the run
        model = task.build(seed)
        frozen = frozen_names(model, task.frozen)
        untouched = {name: _bits(parameter) for name, parameter in model.named_parameters() if name in frozen}
        stack.enter_context(seeded(seed, device))
        first = next(batches)  # the init may use it, and training begins with it
        initialize(model, init, torch.Generator().manual_seed(seed), _inputs(task, first))
        model.to(device).train()
        stepper = made(optimizer, model, lr)
        rates = Rates(stepper, factor if sets_rates else None)
        rates.set(0)
        finite = True
        stack.callback(ended)
        begun = Start(task=task, model=model, optimizer=stepper, steps=steps, validations=len(looks), device=device)
        with seeded(seed, device):
            for observer in observers:
                observer(begun)
                listening.append(observer)
        finite = validated(0, *task.validate(model, device))
        start, since = _clock(device), 0
        for step, drawn in zip(range(steps if finite else 0), itertools.chain([first], batches), strict=False):
            batch = moved(drawn, device)
            stepper.zero_grad()
            loss = task.training_loss(model, batch)
            loss.backward()
            if task.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), task.clip_norm)
            try:
                stepper.step()
            except (NonFiniteGradient, torch.linalg.LinAlgError):
                finite = False
            tell(Step(step=step, loss=loss, target=_target(batch)))
            rates.set(step + 1)
            if not finite or step + 1 in looks:
                spent = _clock(device) - start
                times.append(spent / (step + 1 - since))
                seconds.append(seconds[-1] + spent)
                finite = validated(step + 1, *(task.validate(model, device) if finite else (math.inf, lost)))
                start, since = _clock(device), step + 1
            if not finite:
                break
    parameters = dict(model.named_parameters())
    for name, bits in untouched.items():
        if name not in parameters or not torch.equal(bits, _bits(parameters[name])):
            raise TaskError(
                "a frozen parameter must not change",
                got=name,
                remedy="Look for code that writes to it: the model's forward, a hook, the init or the optimizer.",
            )
    remarks = [] if rates.foreign is None else [_about_rates(*rates.foreign, schedule_name(schedule), sets_rates)]
    duration = time.perf_counter() - entered
    return recorder.history(**watch.found(), remarks=remarks, seconds=seconds, duration=duration)


def _observers(given: Any) -> list[Observer]:
    """Return the observers as a list, given one or several."""
    several: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    return [function("observe", each) for each in several]


def _about_rates(found: float, expected: float, schedule: str, sets_rates: bool) -> str:
    alone = f"schedule={'constant'!r} without a warm-up would not"
    leaves = f"overrules it; {alone}" if sets_rates else "leaves it alone"
    return (
        f"The learning rate is not the one that was set ({found:.3g} instead of {expected:.3g}): the optimizer has a "
        f"schedule of its own, and the trial's, {schedule}, {leaves}."
    )


def _inputs(task: Task, batch: Batch) -> Any:
    """Return what the model is called with, for an init that runs it; None where a function of the user's calls it."""
    return inputs_of(batch, whole=task.loss is None) if task.batch_loss is None else None


def _target(batch: Batch) -> Tensor | None:
    """Return the target of a batch if it is one tensor."""
    target = target_of(batch) if isinstance(batch, (tuple, list)) else None
    return target if isinstance(target, Tensor) else None


def _bits(parameter: nn.Parameter) -> Tensor:
    """Return a copy of the bytes of a parameter."""
    return parameter.detach().cpu().contiguous().flatten().view(torch.uint8).clone()


def _clock(device: str) -> float:
    """Return the time in seconds after the device has finished its queued work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
