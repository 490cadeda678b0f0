"""The optimizer of a run: how it is made, and the size of its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest._contained import last_line
from steepest.errors import InvalidArgument, SteepestError

__all__ = ["made", "state_bytes"]


def made(optimizer: Callable[[nn.Module, float], Any], model: nn.Module, lr: float) -> Optimizer:
    """Return optimizer(model, lr).

    Raises:
        InvalidArgument: If it takes no such arguments, cannot be made for the model, or returns something else.
    """
    rule, remedy = (
        "optimizer must be a function (model, lr) that makes an optimizer",
        "See steepest.compare.CANDIDATES.",
    )
    try:
        found = optimizer(model, lr)
    except SteepestError:
        raise
    except Exception as error:
        raise InvalidArgument(rule, got=last_line(error), remedy=remedy) from error
    if not isinstance(found, Optimizer):
        raise InvalidArgument(rule, got=found, remedy=remedy)
    return found


def state_bytes(optimizer: Optimizer) -> int:
    """Return the size of an optimizer's tensors in bytes."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
