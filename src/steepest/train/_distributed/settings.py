"""What every worker of a run is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from steepest.communication import Deadlines, Scheme
from steepest.init import Initializer
from steepest.tasks import Task
from steepest.train._distributed.faults import Fault
from steepest.train._schedules import Schedule, schedule_name

__all__ = ["Settings", "in_words"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of a run, checked; see `train_distributed` for what they mean.

    Attributes:
        looks: The steps after which the model is validated.
        threads: Threads of each worker's operations.
    """

    task: Task
    optimizer: Callable[[nn.Module, float], Optimizer]
    init: str | Initializer
    lr: float
    seed: int
    steps: int
    schedule: Schedule
    warmup: int | float | str
    looks: frozenset[int]
    device: str
    scheme: Scheme
    faults: tuple[Fault, ...] = ()
    deadlines: Deadlines | None = None
    threads: int = 1

    @property
    def in_words(self) -> dict[str, str]:
        """The settings by name, for display."""
        return in_words(
            self.task, self.optimizer, self.init, self.lr, self.seed, self.steps, self.schedule, self.device
        )


def in_words(
    task: Task, optimizer: Any, init: Any, lr: float, seed: int, steps: int, schedule: Schedule, device: str
) -> dict[str, str]:
    """Return what a run was made with, by name, for display."""
    return {
        "optimizer": getattr(optimizer, "__name__", type(optimizer).__name__),
        "init": init if isinstance(init, str) else getattr(init, "name", type(init).__name__),
        "lr": f"{lr:g}",
        "schedule": schedule_name(schedule),
        "steps": f"{steps:,}",
        "batch": f"{task.batch_size} examples",
        "seed": str(seed),
        "device": device,
    }
