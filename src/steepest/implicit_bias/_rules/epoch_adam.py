"""The "simplified Adam" of EECS 182: gradients divided by their root mean square over an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._check import function, in_range
from steepest.implicit_bias import _sources as sources
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.line import line_limit, single_equation
from steepest.implicit_bias._limits.rest import resting
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import ConstantLength, Gradient, Step, check_batch_size
from steepest.implicit_bias._rules.sign_descent import sign_margin, sign_scale
from steepest.implicit_bias._tails import Schedule, tail_of

__all__ = ["EpochAdam"]


@dataclass(frozen=True)
class EpochAdam(ConstantLength):
    """theta <- theta - eta g / (sqrt(v) + eps), v the mean of g^2 over the latest complete epoch.

    This is the rule of the theorems; the optimizer that trains a model is `steepest.optim.EpochAdam`, which `predict`
    takes as well, with its own schedule. As there the epoch that a step completes counts, and in the first one v is the
    mean so far; here there is an eps, too. On one equation g is a multiple of a, so that the steps have the signs of a:
    it ends at theta0 + sign(a) (b - <a, theta0>) / ||a||_1. On several equations nothing is determined.

    Args:
        schedule: t -> the size of step t. It is examined whether its steps vanish and the steps after each sum to at
            least as much. None stands for any steps that vanish and have an infinite sum.
        eps: >= 0; above 0 theta drifts along the solutions, and nothing is determined.
        batch_size: Rows per step; None for all, where v = g^2 and each step is a sign.

    Raises:
        InvalidArgument: For values out of range.

    >>> from steepest.implicit_bias import predict
    >>> predict(EpochAdam(), [[1, 0.1, 0.01]], [1]).point.mul(1.11)
    tensor([1., 1., 1.], dtype=torch.float64)
    >>> predict(EpochAdam(schedule=lambda t: 0.9 * 0.4**t), [[1, 0.1, 0.01]], [1]).determined
    False

    Source: EECS 182 (UC Berkeley, Fall 2025), homework 2.
    """

    schedule: Schedule | None = None
    eps: float = 0.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if self.schedule is not None:
            function("schedule", self.schedule, remedy="Pass lambda t: .01 for a constant.")
        object.__setattr__(self, "eps", in_range("eps", self.eps, "[0, inf)", remedy="Pass 0."))

    def limit(self, problem: Problem) -> Limit:
        """Return the limit on one equation, or the largest margin of full batches."""
        rest = resting(problem, self.sees_all(problem))
        if rest is not None:
            return rest
        where = None if problem.separable_loss else (problem.A, problem.b)
        if self.eps > 0:
            return Unknown(
                f"eps = {self.eps:g} above 0 makes the steps of small gradients shorter in some coordinates than in "
                f"others: theta drifts along the solutions for as long as it is run.",
                where,
            )
        if problem.separable_loss:
            return self._separable(problem)
        limit = line_limit(
            problem,
            torch.sign,
            "On one equation every gradient is a multiple of a, so every step one of sign(a), and the solution on that "
            f"line is the limit, with steps that vanish and whose tail always suffices ({sources.HOMEWORK}; "
            f"{sources.KAKEYA}).",
            "With several equations v mixes their gradients, and where theta ends depends on the steps (on full "
            f"batches it is sign descent: {sources.NORMS}, section 3).",
        )
        if limit.determined and not self.sees_all(problem):
            return Unknown(
                "With several batches an epoch v remembers residuals that may have been close to 0, and the next "
                "step can be of any length: no limit is known.",
                where,
            )
        return self._as_scheduled(problem, limit) if limit.determined else limit

    def _as_scheduled(self, problem: Problem, limit: Limit) -> Limit:
        if self.schedule is None:
            return limit
        where, tail = (problem.A, problem.b), tail_of(self.schedule)
        if not tail.converges:
            return Unknown(
                f"The schedule does not bring theta to rest: {tail.note}. A constant step ends in a cycle, a tail "
                f"that is too short leaves the residual where it is (see two_cycle).",
                where,
            )
        if single_equation(problem) is None or problem.rows > 1:
            return Unknown(
                "The schedule's tail was compared with one equation's residual; with several rows pass schedule=None "
                "to assume steps of infinite sum.",
                where,
            )
        due = float((problem.b - problem.A @ problem.theta0).abs())
        reach = float(problem.A.abs().sum())
        if tail.total * reach < due * (1 + 1e-9):
            return Unknown(
                f"The schedule stops short: its steps are seen to sum to {tail.total:.6g}, and {due / reach:.6g} is "
                f"needed.",
                where,
            )
        return limit

    def _separable(self, problem: Problem) -> Limit:
        if not self.sees_all(problem):
            return Unknown("With minibatches v mixes gradients of different rows: no direction is known.")
        if self.schedule is not None:
            return Unknown(
                "Whether a given schedule has an infinite sum cannot be seen; pass schedule=None to assume that it has."
            )
        return sign_margin(problem, "the epoch-preconditioned rule, which on full batches is sign descent,")

    def step(self, problem: Problem, runs: int) -> Step:
        """Return one step, with the second moments of the epoch."""
        epoch = 1 if self.sees_all(problem) else math.ceil(problem.rows / (self.batch_size or 1))
        square_sum = torch.zeros(runs, problem.columns, dtype=torch.float64)
        square_mean = torch.zeros_like(square_sum)

        def step(theta: Tensor, gradient: Gradient, size: Tensor, t: int) -> Tensor:
            g, counted = gradient(theta), t % epoch + 1
            square_sum.add_(g.square())
            if counted == epoch or t < epoch:
                square_mean.copy_(square_sum / counted)
            if counted == epoch:
                square_sum.zero_()
            root = square_mean.sqrt() + self.eps
            return theta - size * torch.where(root > 0, g / root, 0)

        return step

    def schedules(self, problem: Problem, steps: int) -> list[Schedule]:
        """Return multiples of the rule's own schedule, where it has one."""
        if self.schedule is None:
            return super().schedules(problem, steps)
        own = self.schedule
        return [lambda t, factor=factor: factor * own(t) for factor in (1.0, 0.5, 0.25)]

    def scale(self, problem: Problem) -> float:
        """Return the length of a step that crosses the equations at once."""
        return sign_scale(problem)
