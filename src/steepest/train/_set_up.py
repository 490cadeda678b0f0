"""What a run needs before its first step, alone or as one of several workers."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import torch
from torch import nn

from steepest._contained import contained, last_line
from steepest._random import seeded
from steepest.errors import InvalidArgument, SteepestError
from steepest.estimators import GradientSource
from steepest.init import initialize
from steepest.tasks import Batch, Task
from steepest.tasks._batch import inputs_of, moved
from steepest.tasks._one_run import for_one_run
from steepest.train._gradients import Gradients
from steepest.train._optimizer import made
from steepest.train._rates import Rates
from steepest.train._schedules import factors, schedule_name, warmup_steps
from steepest.train._settings import RunSettings
from steepest.train._sources import source_name
from steepest.train._spending import Spending

__all__ = ["Ready", "steps_within"]


class Ready:
    """A model that is initialised, with all that takes its steps.

    Args:
        settings: The settings of the run.
        task: The task as this run has it.
        model: Its model, whose weights the init sets.
        first: The first batch, which an init may use.

    Attributes:
        optimizer: The optimizer, with the learning rates of the first step.
        rates: Sets them.
        gradients: Computes the gradients.
        spending: The budget, in evaluations of the loss.

    Raises:
        InvalidArgument: If the optimizer cannot be made for the model, or the evaluations do not suffice for a step.
    """

    def __init__(self, settings: RunSettings, task: Task, model: nn.Module, first: Batch) -> None:
        # With what a function of the user's calls the model, nobody knows.
        inputs: Any = inputs_of(first, whole=task.loss is None) if task.batch_loss is None else None
        initialize(model, settings.init, torch.Generator().manual_seed(settings.seed), inputs)
        model.to(settings.device).train()
        self.gradients = Gradients(settings.gradient, task, model, settings.seed, settings.device)
        spent = self.gradients.rehearse(settings.task, moved(first, settings.device))
        self.spending = Spending(
            self.gradients.cost, steps=settings.steps, evaluations=settings.evaluations, spent=spent
        )
        steps = self.spending.steps
        self._schedule = settings.schedule
        self._sets_rates = settings.schedule != "constant" or warmup_steps(settings.warmup, steps) > 0
        self.optimizer = made(settings.optimizer, model, settings.lr)
        factor = factors(settings.schedule, settings.warmup, steps)
        self.rates = Rates(self.optimizer, factor if self._sets_rates else None)
        self.rates.set(0)

    @property
    def remarks(self) -> list[str]:
        """Sentences for the user about the learning rates and the gradients."""
        found = [] if self.rates.foreign is None else [self._about_rates(*self.rates.foreign)]
        return [*found, *self.gradients.remarks]

    def _about_rates(self, found: float, expected: float) -> str:
        alone = f"schedule={'constant'!r} without a warm-up would not"
        leaves = f"overrules it; {alone}" if self._sets_rates else "leaves it alone"
        return (
            f"The learning rate is not the one that was set ({found:.3g} instead of {expected:.3g}): the optimizer has "
            f"a schedule of its own, and the trial's, {schedule_name(self._schedule)}, {leaves}."
        )


def steps_within(task: Task, gradient: GradientSource | None, steps: int, evaluations: int | None) -> int:
    """Return the number of steps of a run, after one estimate by the gradient source if there is one, on the CPU.

    Args:
        task: The task.
        gradient: The source; None for backpropagation.
        steps: The number of steps if `evaluations` is None.
        evaluations: The budget in evaluations of the loss.

    Raises:
        InvalidArgument: If the source fails, or the evaluations do not suffice for a step.
        TaskError: If the task's own code tries to end the program.
    """
    if gradient is None:
        return steps if evaluations is None else evaluations
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contained("a task or a gradient source"))
            stack.enter_context(seeded(0))
            own = for_one_run(task, 0)
            batches = own.batches(torch.Generator().manual_seed(0))
            stack.callback(cast(Any, batches).close)
            batch = next(batches)
            gradients = Gradients(gradient, own, own.build(0).train(), 0, "cpu")
            spent = gradients.rehearse(task, batch)
            spending = Spending(gradients.cost, steps=steps, evaluations=evaluations, spent=spent)
            gradients.compute(batch, 0)
            return spending.steps
    except SteepestError:
        raise
    except Exception as error:
        raise InvalidArgument(
            f"gradient must be a source that can estimate the gradient of the task's loss: {source_name(gradient)}",
            got=last_line(error),
            remedy="Call it by hand on a small objective.",
        ) from error
