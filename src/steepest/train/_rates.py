"""Learning rates over a run, and the detection of rates that other code has set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

from steepest._check import at_least, function, instance

__all__ = ["Rates"]


class Rates:
    """Sets the learning rates of an optimizer: the initial rate of each group times a factor.

    torch's `LambdaLR` does so too, but silently overwrites a rate that other code has set, for example a warm-up of the
    optimizer's own. This class records such a rate.

    Args:
        optimizer: Its groups may have different rates; groups without a rate are left alone.
        factor: A function of the number of earlier steps; None leaves every rate as it is.

    Attributes:
        foreign: The first rate that other code has set and the rate that it replaced, as floats; None while there is
            none.

    Raises:
        InvalidArgument: If optimizer is no optimizer, or factor no function.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> Rates(sgd, lambda step: 1 / (step + 1)).set(3)
    >>> sgd.param_groups[0]["lr"]
    0.025
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float] | None) -> None:
        self._optimizer = instance("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer")
        self._factor = None if factor is None else function("factor", factor)
        self._base: list[float] = []
        self._set: list[tuple[Any, int, float]] = []
        self.foreign: tuple[float, float] | None = None

    def resume(self, step: int) -> None:
        """Set every rate as `set` does, after the optimizer has loaded a state with rates of another step.

        Raises:
            InvalidArgument: If step is no whole number of at least 0.
        """
        self._set = []
        self.set(step)

    def set(self, step: int) -> None:
        """Set every rate for the step after this number of steps.

        Raises:
            InvalidArgument: If step is no whole number of at least 0.
        """
        at_least("step", step, 0)
        groups = [group for group in self._optimizer.param_groups if "lr" in group]
        for group, expected in zip(groups, self._set, strict=False):
            if self.foreign is None and not _is_same(group["lr"], expected):
                self.foreign = float(group["lr"]), expected[2]
        for group in groups[len(self._base) :]:  # all at first; later those that were added to the optimizer
            self._base.append(float(group.get("initial_lr", group["lr"])))
        if self._factor is not None:
            for group, base in zip(groups, self._base, strict=False):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(base * self._factor(step))
                else:
                    group["lr"] = base * self._factor(step)
        self._set = [_seen(group["lr"], base) for group, base in zip(groups, self._base, strict=False)]


def _seen(rate: Any, base: float) -> tuple[Any, int, float]:
    """Return a rate, its version and its value; for a tensor the base, as reading its value makes the device wait."""
    return (rate, rate._version, base) if isinstance(rate, Tensor) else (rate, 0, float(rate))


def _is_same(rate: Any, expected: tuple[Any, int, float]) -> bool:
    if isinstance(rate, Tensor):
        return rate is expected[0] and rate._version == expected[1]
    return rate == expected[0]
