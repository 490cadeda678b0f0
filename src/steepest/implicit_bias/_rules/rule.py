"""The interface of a rule: what is known of its limit, and how it steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from steepest._check import at_least, in_range
from steepest.implicit_bias._limits.limit import Limit
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._tails import Schedule

_FACTORS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)

__all__ = ["ConstantLength", "Gradient", "Rule", "Step", "check_batch_size", "check_momentum", "inverse_square"]

Gradient = Callable[[Tensor], Tensor]
"""theta, runs x n -> the gradient on each run's present batch, runs x n."""
Step = Callable[[Tensor, Gradient, Tensor, int], Tensor]
"""theta, gradient, the runs' step sizes (runs x 1), t -> the next theta."""


class Rule(ABC):
    """How theta moves.

    A subclass must implement two things: what is known of its limit, and its step. It never claims more than a theorem
    says. Subclasses are frozen dataclasses.
    """

    batch_size: int | None = None
    """Rows per step, drawn without replacement, epoch by epoch; all rows if None."""

    @property
    def needs_vanishing_steps(self) -> bool:
        """Whether steps do not shrink with the gradient, so that the schedule has to bring theta to rest."""
        return False

    def start(self, n: int) -> Tensor | None:  # noqa: ARG002
        """Return where a run starts by default: None for zeros."""
        return None

    def afresh(self) -> Self:
        """Return the rule as it starts a run: of a live optimizer, without the state that it holds."""
        return self

    def sizes(self, schedule: Schedule) -> Schedule:
        """Return the sizes of the steps that a run with this schedule takes: itself."""
        return schedule

    @abstractmethod
    def limit(self, problem: Problem) -> Limit:
        """Return what is known of the limit."""

    @abstractmethod
    def step(self, problem: Problem, runs: int) -> Step:
        """Return the step of `runs` runs at once, which may remember what came before."""

    @abstractmethod
    def scale(self, problem: Problem) -> float:
        """Return a step size at which a run moves well."""

    def schedules(self, problem: Problem, steps: int) -> list[Schedule]:
        """Return the schedules that `spread` tries, with first steps up to the scale.

        They are constant, or, where steps have to vanish, fall to 1e-10 of the first so slowly that their tail always
        suffices.
        """
        scale = self.scale(problem)
        ratio = max(1e-10 ** (1 / steps), 0.6) if self.needs_vanishing_steps else 1.0
        return [lambda t, first=factor * scale: first * ratio**t for factor in _FACTORS]

    def sees_all(self, problem: Problem) -> bool:
        """Return whether each step sees every row."""
        return self.batch_size is None or self.batch_size >= (problem.drawn or problem.rows)


class ConstantLength(Rule):
    """A rule whose steps do not shrink with the gradient."""

    @property
    def needs_vanishing_steps(self) -> bool:
        """True."""
        return True


def inverse_square(A: Tensor) -> float:
    """Return 1 / ||A||_2^2, within what a float can hold."""
    largest = A.abs().max().clamp(1e-150, 1e150)
    size = float(torch.linalg.matrix_norm(A / largest, 2) * largest)
    return 1 / min(max(size, 1e-150), 1e150) ** 2


def check_batch_size(batch_size: int | None) -> None:
    """Refuse an invalid batch size.

    Raises:
        InvalidArgument: If it is no whole number, at least 1, or None.
    """
    if batch_size is not None:
        at_least("batch_size", batch_size, 1, remedy="Pass None for all rows at each step.")


def check_momentum(momentum: float) -> None:
    """Refuse an invalid momentum.

    Raises:
        InvalidArgument: If it is not in [0, 1).
    """
    in_range("momentum", momentum, "[0, 1)", remedy="Try 0.9.")
