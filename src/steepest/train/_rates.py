"""Learning rates over a run, and the detection of rates that other code has set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

__all__ = ["SCHEDULES", "Rates"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
"""By name: the factor of the learning rate as a function of progress, from 0 (the first step) to 1 (after the last)."""


class Rates:
    """Sets the learning rates of an optimizer: the initial rate of each group times a factor.

    torch's `LambdaLR` does so too, but silently overwrites a rate that other code has set, for example a warm-up of the
    optimizer's own. This class records such a rate.

    Args:
        optimizer: Its groups may have different rates; groups without a rate are left alone.
        factor: A function of progress; None leaves every rate as it is.

    Attributes:
        foreign: The first rate that other code has set and the rate that it replaced, as floats; None while there is
            none.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[float], float] | None) -> None:
        self._optimizer, self._factor = optimizer, factor
        self._base: list[float] = []
        self._set: list[tuple[Any, int, float]] = []
        self.foreign: tuple[float, float] | None = None

    def set(self, progress: float) -> None:
        """Set every rate for this progress, 0 at the start and 1 at the end."""
        groups = [group for group in self._optimizer.param_groups if "lr" in group]
        for group, expected in zip(groups, self._set, strict=False):
            if self.foreign is None and not _is_same(group["lr"], expected):
                self.foreign = float(group["lr"]), expected[2]
        for group in groups[len(self._base) :]:  # all at first; later those that were added to the optimizer
            self._base.append(float(group.get("initial_lr", group["lr"])))
        if self._factor is not None:
            for group, base in zip(groups, self._base, strict=False):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(base * self._factor(progress))
                else:
                    group["lr"] = base * self._factor(progress)
        self._set = [_seen(group["lr"], base) for group, base in zip(groups, self._base, strict=False)]


def _seen(rate: Any, base: float) -> tuple[Any, int, float]:
    """Return a rate, its version and its value; for a tensor the base, as reading its value makes the device wait."""
    return (rate, rate._version, base) if isinstance(rate, Tensor) else (rate, 0, float(rate))


def _is_same(rate: Any, expected: tuple[Any, int, float]) -> bool:
    if isinstance(rate, Tensor):
        return rate is expected[0] and rate._version == expected[1]
    return rate == expected[0]
