"""What one run is made with, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from steepest._check import at_least, function, in_range, instance
from steepest._check import device as check_device
from steepest.errors import InvalidArgument
from steepest.estimators import GradientSource
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train._schedules import Schedule, check_warmup, factors, resolve_schedule, schedule_name
from steepest.train._sources import chosen_source, source_name
from steepest.train._validations import validation_steps

__all__ = ["RunSettings", "checked"]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The arguments of a run, checked; see `steepest.train.train` for what they mean.

    Attributes:
        steps: The number of steps, unless `evaluations` decides.
        evaluations: The budget in evaluations of the loss; None for that of the steps.
        gradient: The gradient source; None for backpropagation.
        validations: The largest number of validations, or the steps after which to validate; None for the task's own.
    """

    task: Task
    optimizer: Callable[[nn.Module, float], Optimizer]
    init: str | Initializer
    lr: float
    seed: int
    steps: int
    evaluations: int | None
    schedule: Schedule
    warmup: int | float | str
    validations: int | Sequence[int] | None
    gradient: GradientSource | None
    device: str

    @property
    def in_words(self) -> dict[str, str]:
        """The settings by name, for display."""
        optimizer, init = self.optimizer, self.init
        return {
            "optimizer": getattr(optimizer, "__name__", type(optimizer).__name__),
            "init": init if isinstance(init, str) else getattr(init, "name", type(init).__name__),
            **({} if self.gradient is None else {"gradient": source_name(self.gradient)}),
            "lr": f"{self.lr:g}",
            "schedule": schedule_name(self.schedule),
            "steps": f"{self.steps:,}",
            "batch": f"{self.task.batch_size} examples",
            "seed": str(self.seed),
            "device": self.device,
        }


def checked(
    task: Task,
    optimizer: Any,
    init: Any,
    *,
    lr: Any,
    seed: Any,
    steps: Any,
    schedule: Any,
    warmup: Any,
    validations: Any,
    device: Any,
    evaluations: Any = None,
    gradient: Any = None,
) -> dict[str, Any]:
    """Return the fields of a `RunSettings`, checked as far as that is possible without a model.

    Raises:
        UnknownName: If there is no such schedule or gradient source.
        InvalidArgument: If another argument is outside its range, or both steps and evaluations are given.
    """
    instance("task", task, Task, "a steepest.tasks.Task")
    function("optimizer", optimizer)
    if evaluations is not None:
        at_least("evaluations", evaluations, 1)
        if steps is not None:
            raise InvalidArgument(
                "a run must have steps or evaluations, not both",
                got="both",
                remedy="A gradient source needs several evaluations of the loss per step; pass one of the two.",
            )
        resolve_schedule(schedule)
        check_warmup(warmup)
    steps = task.steps if steps is None else at_least("steps", steps, 1)
    if evaluations is None:
        factors(schedule, warmup, steps)
        validation_steps(validations, task.validations, steps)
    return {
        "task": task,
        "optimizer": optimizer,
        "init": init,
        "lr": in_range("lr", lr, "[0, inf)"),
        "seed": at_least("seed", seed, 0, most=2**63 - 1),
        "steps": steps,
        "evaluations": evaluations,
        "schedule": schedule,
        "warmup": warmup,
        "validations": validations,
        "gradient": chosen_source(gradient),
        "device": check_device("device", device),
    }
