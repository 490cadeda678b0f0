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

from steepest._check import function
from steepest._contained import contained
from steepest._frozen import frozen_names
from steepest._random import seeded
from steepest.errors import NonFiniteGradient, TaskError
from steepest.estimators import GradientSource
from steepest.init import Initializer
from steepest.tasks import Batch, Task
from steepest.tasks._batch import moved, target_of
from steepest.tasks._one_run import for_one_run
from steepest.train._events import End, Event, Observer, Start, Step, Validated
from steepest.train._finite import FiniteParameters
from steepest.train._history import History, Recorder
from steepest.train._norms import Norms
from steepest.train._schedules import Schedule
from steepest.train._set_up import Ready
from steepest.train._settings import RunSettings, checked
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
    evaluations: int | None = None,
    schedule: Schedule = "cosine",
    warmup: int | float | str = 0,
    validations: int | Sequence[int] | None = None,
    gradient: GradientSource | str | None = None,
    device: str = "cpu",
    observe: Observer | Sequence[Observer] = (),
) -> History:
    """Train a task once and return its history; the same seed gives the same bits on the same machine.

    The seed determines the initial weights, the order of the data and the model's own noise (dropout), each through
    a separate generator, so that runs of different optimizers with the same seed are paired. The run ends as diverged
    at the first validation whose loss is not finite, or at which a parameter no longer is, and at once where an
    optimizer refuses a gradient that is not finite.

    A gradient source other than backpropagation gets the loss of each batch as a function of the parameters that train,
    and may evaluate it many times for a step. The random numbers of the model (dropout) are the same in all evaluations
    of a step. The budget is one of evaluations: schedule, warm-up and validations run over those that were spent, in
    units of the cost of a step. `History.evaluations` counts them; gradient norms and training losses are recorded, and
    there is no diagnosis, as the monitor watches backpropagation.

    Args:
        task: The task to train.
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name.
        lr: The largest learning rate, >= 0: the one after the warm-up, and at the start without one.
        seed: Any integer >= 0.
        steps: Training steps, at least 1; the task's own number by default. With a source whose cost varies, what so
            many steps of the first one's cost would spend.
        evaluations: Instead of steps, the most evaluations of the loss that may be spent. With backpropagation a step
            is one.
        schedule: A name in `SCHEDULES`: "cosine" (lr (1 + cos(pi t / steps)) / 2), "linear" (to zero), "wsd" (warm-up,
            stable, decay), or "constant", which without a warm-up does not interfere with a schedule of the
            optimizer's own. Or a function: the factor of lr, given progress from 0 (the first step) to 1 (the end).
        warmup: Steps over which the rate rises linearly from lr/warmup to lr; the schedule runs over the rest. A whole
            number of steps, or a share of the run: 0.05 or "5%".
        validations: The largest number of validations after the start, evenly spaced and including the last step; or
            the steps after which to validate, to which the last step is added. None for the task's own.
        gradient: A source of `steepest.estimators`, or its name with options, as
            "score-function:sigma=0.05,samples=20"; None for backpropagation.
        device: The device to train on.
        observe: One or several functions that are called with every event of the run: `Start`, `Validated`, `Step`,
            `End`. Their time at a validation is not counted in seconds_per_step.

    Returns:
        The curves and costs of the run.

    Raises:
        UnknownName: If there is no such init, schedule or source, or the model has no parameter or module with a name
            in `frozen`.
        InvalidArgument: If another argument is outside its range, both steps and evaluations are given, or the
            evaluations do not suffice for a step.
        TaskError: If a frozen parameter has changed, the loss has no gradient where one is needed, or user code tries
            to end the program.
    """
    entered = time.perf_counter()
    settings = RunSettings(
        **checked(
            task,
            optimizer,
            init,
            lr=lr,
            seed=seed,
            steps=steps,
            evaluations=evaluations,
            schedule=schedule,
            warmup=warmup,
            validations=validations,
            gradient=gradient,
            device=device,
        )
    )
    seed, device = settings.seed, settings.device
    recorder, watch = Recorder(), Watch() if settings.gradient is None else Norms()
    observers: list[Observer] = [recorder, watch, *_observers(observe)]
    times: list[float] = []
    seconds = [0.0]
    lost = dict.fromkeys(task.metrics, math.nan)
    listening: list[Observer] = []

    def tell(event: Event) -> None:
        for observer in listening:
            observer(event)

    def validated(step: int, loss: float, metrics: Mapping[str, float], *, is_last: bool = False) -> bool:
        finite = math.isfinite(loss)
        model.eval()
        with seeded(seed, device), watch.paused():
            tell(
                Validated(
                    step=step,
                    model=model,
                    loss=loss if finite else math.inf,
                    metrics=metrics,
                    evaluations=spending.spent,
                    is_last=is_last or not finite,
                )
            )
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
        ready = Ready(settings, task, model, first)
        stepper, gradients, spending = ready.optimizer, ready.gradients, ready.spending
        parameters = FiniteParameters(model)
        looks = validation_steps(validations, task.validations, spending.steps)
        finite = True
        stack.callback(ended)
        counts = {"steps": spending.steps, "validations": len(looks)}
        begun = Start(task=task, model=model, optimizer=stepper, device=device, **counts)
        with seeded(seed, device):
            for observer in observers:
                observer(begun)
                listening.append(observer)
        found = task.validate(model, device) if parameters.hold() else (math.inf, lost)
        finite = validated(0, *found)
        start, since = _clock(device), 0
        for step, drawn in enumerate(itertools.chain([first], batches) if finite else ()):
            batch = moved(drawn, device)
            stepper.zero_grad()
            loss = gradients.compute(batch, step)
            if task.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), task.clip_norm)
            try:
                stepper.step()
            except (NonFiniteGradient, torch.linalg.LinAlgError):
                finite = False
            tell(Step(step=step, loss=loss, target=_target(batch)))
            before = spending.position
            spending.add(gradients.spent)
            ready.rates.set(spending.position)
            is_last = not (finite and spending.allows(gradients.cost))
            if is_last or not looks.isdisjoint(range(before + 1, spending.position + 1)):
                spent = _clock(device) - start
                times.append(spent / (step + 1 - since))
                seconds.append(seconds[-1] + spent)
                found = task.validate(model, device) if finite and parameters.hold() else (math.inf, lost)
                finite = validated(step + 1, *found, is_last=is_last)
                start, since = _clock(device), step + 1
            if is_last or not finite:
                break
    named = dict(model.named_parameters())
    for name, bits in untouched.items():
        if name not in named or not torch.equal(bits, _bits(named[name])):
            raise TaskError(
                "a frozen parameter must not change",
                got=name,
                remedy="Look for code that writes to it: the model's forward, a hook, the init or the optimizer.",
            )
    duration = time.perf_counter() - entered
    return recorder.history(**watch.found(), remarks=ready.remarks, seconds=seconds, duration=duration)


def _observers(given: Any) -> list[Observer]:
    """Return the observers as a list, given one or several."""
    several: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    return [function("observe", each) for each in several]


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
