"""The events that a run emits to its observers while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest.tasks import Task

__all__ = ["End", "Event", "Observer", "Start", "Step", "Validated"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The start of training, after the init.

    Attributes:
        task: The task that is trained.
        model: The initialised model, on the device.
        optimizer: The optimizer, with the learning rates of the first step.
        steps: The number of training steps; of a gradient source whose cost varies, if all cost what the first does.
        validations: The number of validations after the start, unless the run diverges.
        device: The device of the run.
    """

    task: Task
    model: nn.Module
    optimizer: Optimizer
    steps: int
    validations: int
    device: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A step of the optimizer, after it was taken.

    Attributes:
        step: The index of the step, 0 for the first.
        loss: The loss of this step's batch, a scalar on the device; reading it makes the device wait. From a gradient
            source the value of its estimate, such as the mean over its evaluations.
        target: The target of this step's batch, None where that is no single tensor.
    """

    step: int
    loss: Tensor
    target: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Validated:
    """A validation of the model, which is in evaluation mode; torch's generators are restored after this event.

    Attributes:
        step: The number of steps before, 0 at the start.
        model: The model in its present state; observers must not change it.
        loss: The mean validation loss, infinite where it was not finite.
        metrics: The value of each metric by its name; empty without one.
        evaluations: How many evaluations of the training loss were spent before; with backpropagation one per step.
        is_last: Whether no step follows.
    """

    step: int
    model: nn.Module
    loss: float
    metrics: Mapping[str, float]
    evaluations: int = 0
    is_last: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class End:
    """The end of the run, also after an error.

    Attributes:
        diverged: Whether the loss or a gradient stopped being finite.
        seconds_per_step: The median time per step in seconds, without validations; nan if there was none.
    """

    diverged: bool
    seconds_per_step: float


Event = Start | Step | Validated | End
"""The events of a run, in this order: `Start`, `Validated` at step 0, then `Step`s and `Validated`s, and `End`."""

Observer = Callable[[Event], object]
"""Called with every event, in the process that trains.

It must not change the model. Random numbers that it draws from torch's generators leave no trace, except at a `Step`,
where it must draw none; there and at the `Start` it must not call the model, whose buffers a call may change.
"""
