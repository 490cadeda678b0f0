"""What a run tells those who listen, while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest.tasks import Task

__all__ = ["End", "Event", "Observer", "Start", "Step", "Validated"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Training begins: the model stands where its init has put it.

    Attributes:
        task: What is trained.
        model: Already on the device.
        optimizer: Its learning rates are those of the first step.
        steps: How many steps there will be.
        validations: How many times the model will be validated after the start, unless the run diverges.
        device: Where it trains.
    """

    task: Task
    model: nn.Module
    optimizer: Optimizer
    steps: int
    validations: int
    device: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """The optimizer has stepped.

    Attributes:
        step: How many steps came before, 0 for the first.
        loss: Of this step's batch, a scalar on the device; to read it makes the device wait.
        target: This step's targets.
    """

    step: int
    loss: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Validated:
    """The model was validated; it is in evaluation mode, and what is drawn from torch's generators leaves no trace.

    Attributes:
        step: After how many steps, 0 for the start.
        model: As it is now; it must not be changed.
        loss: The mean validation loss, infinite where it was not finite.
        metric: The mean metric, nan without one.
    """

    step: int
    model: nn.Module
    loss: float
    metric: float


@dataclass(frozen=True, kw_only=True, eq=False)
class End:
    """The run is over, whatever ended it.

    Attributes:
        diverged: Whether the loss or a gradient stopped being finite.
        seconds_per_step: The median time of a step, without validations; nan if there was none.
    """

    diverged: bool
    seconds_per_step: float


Event = Start | Step | Validated | End
"""What a run tells, in this order: `Start`, `Validated` at step 0, then `Step`s and `Validated`s, and `End`."""

Observer = Callable[[Event], object]
"""Called with every event, in the process that trains. At a `Step` it must draw no random numbers."""
