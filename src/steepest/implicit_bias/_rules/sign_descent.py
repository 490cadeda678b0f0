"""Sign descent: every coordinate moves by the same length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.implicit_bias import _sources as sources
from steepest.implicit_bias._limits.affine import along
from steepest.implicit_bias._limits.limit import Certificate, Limit, Unknown, norm_of
from steepest.implicit_bias._limits.line import line_limit, single_equation
from steepest.implicit_bias._limits.margin import largest_margin
from steepest.implicit_bias._limits.rest import resting
from steepest.implicit_bias._limits.separation import Separation, separation
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import ConstantLength, Step, check_batch_size
from steepest.norms import LInf

__all__ = ["MeanDirection", "SignDescent", "sign_margin", "sign_scale"]


@dataclass(frozen=True)
class SignDescent(ConstantLength):
    """theta <- theta - eta sign(g), g the gradient of a batch: steepest descent in the largest-entry norm.

    This is the rule of the theorems, with any step sizes; the optimizer that trains a model is
    `steepest.optim.SignDescent`, which `predict` takes as well (constrained, its constant steps never come to rest).

    On one equation it ends at theta0 + sign(a) (b - <a, theta0>) / ||a||_1; on several with single rows, where a
    condition on A holds, at theta0 + S' (A S')^-1 (b - A theta0), S = sign(A); on several with full batches nothing is
    determined. All this assumes steps that vanish and have an infinite sum: constant steps end in a cycle
    (`two_cycle`).

    Args:
        batch_size: Rows per step; None for all.

    Raises:
        InvalidArgument: If batch_size is no whole number >= 1 or None.

    >>> from steepest.implicit_bias import predict
    >>> predict(SignDescent(), [[1, 0.1, 0.01]], [1]).point.mul(1.11)
    tensor([1., 1., 1.], dtype=torch.float64)
    """

    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    def limit(self, problem: Problem) -> Limit:
        """Return the limit on one equation or with single rows, the largest margin, or the mean of label times sign."""
        rest = resting(problem, self.sees_all(problem))
        if rest is not None:
            return rest
        if problem.separable_loss:
            return self._separable(problem)
        if self.batch_size == 1 and single_equation(problem) is None:
            return _single_rows(problem)
        several = (
            "With several equations sign descent on full batches or minibatches moves by a different combination of "
            "signs for every set of residual signs, and where it ends depends on the steps (as of steepest descent in "
            f"general norms: {sources.NORMS}, section 3)."
        )
        limit = line_limit(
            problem,
            torch.sign,
            "On one equation every gradient is a multiple of a, so every step one of sign(a), and the solution on that "
            f"line is the limit, with steps that vanish and have an infinite sum ({sources.HOMEWORK}).",
            several,
        )
        if self.sees_all(problem) or single_equation(problem) is not None:
            return limit
        return Unknown(several, (problem.A, problem.b))

    def _separable(self, problem: Problem) -> Limit:
        if self.sees_all(problem) and problem.rows > 1:
            return sign_margin(problem, "sign descent")
        if self.batch_size != 1 and problem.rows > 1:
            return Unknown(
                "Minibatches of separable data have signs of their own: the direction is known for full batches "
                "(largest margin) and for single rows (mean of label times sign)."
            )
        mean = problem.signed.sign().mean(dim=0)
        if not bool(mean.any()):
            return Unknown("The mean of label times sign(a_i) is 0: theta wanders without a direction.")
        return MeanDirection(
            "The gradient of one row has the signs of -b_i a_i wherever theta is, and these never change: theta moves "
            "by the mean of b_i sign(a_i), not to a margin, with steps that never increase, of infinite sum, and rows "
            "drawn equally often.",
            mean,
        )

    def step(self, problem: Problem, runs: int) -> Step:  # noqa: ARG002
        """Return one step along the signs."""
        return lambda theta, gradient, size, _t: theta - size * gradient(theta).sign()

    def scale(self, problem: Problem) -> float:
        """Return the length of a step that crosses the equations at once."""
        return sign_scale(problem)


@dataclass(frozen=True, eq=False)
class MeanDirection(Limit):
    """Theta grows in the direction of the mean of all steps.

    Attributes:
        reason: Why.
        mean: The mean step.
    """

    reason: str
    mean: Tensor

    @property
    def direction(self) -> Tensor:
        """The mean step, of length 1."""
        return self.mean / norm_of(self.mean)

    def certify(self, theta: Tensor, tolerance: float) -> Certificate:
        """Compare the directions."""
        if not bool(theta.any()):
            return Certificate(False, torch.inf, torch.inf, torch.inf, tolerance)
        distance = norm_of(theta / norm_of(theta) - self.direction)
        return Certificate(distance <= tolerance, 0.0, distance, distance, tolerance)


def sign_margin(problem: Problem, name: str) -> Limit:
    """Return the largest margin in the largest-entry norm, for separable data."""
    kind = separation(problem.signed)
    if kind is not Separation.STRICT:
        return Unknown(
            f"The data are not separable, so there is no margin to claim ({kind.value}); where {name} ends among "
            f"points of equal loss depends on the steps."
        )
    limit = largest_margin(LInf(), problem.signed)
    if limit is None:
        return Unknown("The direction of largest margin is the limit, but could not be computed to 1e-9.")
    if not limit.unique:
        return Unknown(
            f"The margin tends to the largest one in the largest-entry norm, {limit.margin:.6g}, but several "
            f"directions attain it, and which of them theta takes is not known."
        )
    return limit.because(
        f"The data are separable: theta diverges, and the direction of {name} tends to the largest margin in the "
        f"largest-entry norm ({sources.NORMS}, theorem 5; normalised steps: {sources.NORMALISED}), with steps that "
        f"vanish and have an infinite sum."
    )


def sign_scale(problem: Problem) -> float:
    """Return |residual| / ||a||_1, the largest over the rows, or 1 / ||a||_1 where a margin is to be reached."""
    reach = problem.A.abs().sum(dim=1)
    due = (problem.b - problem.A @ problem.theta0).abs() if not problem.separable_loss else torch.ones_like(problem.b)
    sizes = due[reach > 0] / reach[reach > 0]
    return max(float(sizes.max()), 1e-12) if len(sizes) else 1.0


def _single_rows(problem: Problem) -> Limit:
    """Return theta0 + S' M^-1 (b - A theta0), M = A S', where W M + M' W is positive definite for some diagonal W > 0.

    With small steps the residuals follow r' = -M P s, s_i = sign(r_i), p_i how often row i is drawn; then the sum of
    w_i p_i |r_i| falls at the rate (P s)' W M (P s) >= a constant > 0 until all of them are 0, whatever the p_i > 0.
    """
    where = (problem.A, problem.b)
    if problem.rows > problem.columns:
        return Unknown("With more rows than columns A sign(A)' is singular: no limit of single rows is known.", where)
    steps = problem.A.sign().mT
    M = problem.A @ steps
    reach = problem.A.abs().sum(dim=1)
    limit = along(problem, steps)
    if limit is None:
        return Unknown(
            "A sign(A)' is singular (rows with equal sign patterns, dependent or contradicting equations): the steps "
            "of single rows do not determine where theta ends.",
            where,
        )
    # Equations have equal weight whatever they are multiplied by.
    if not _diagonally_stable(M / reach[:, None]):
        return Unknown(
            "A sign(A)' + sign(A) A' is not positive definite, in no weighting of the rows that was found: the "
            "residuals need not go to 0 (some run away), so no limit is claimed.",
            where,
        )
    return limit.because(
        "Each step of a single row is a multiple of sign(a_i), the residuals go to 0 as A sign(A)' is positive "
        "definite (in some weighting of the rows), and the solution in theta0 + range(sign(A)') is the limit, with "
        "steps that vanish and have an infinite sum, which follow the differential inclusion "
        f"({sources.INCLUSIONS}), and rows drawn equally often."
    )


def _diagonally_stable(M: Tensor) -> bool:
    """Return whether W M + M' W is clearly positive definite for a W that is found by a few steps of subgradients."""
    logs = torch.zeros(len(M), dtype=torch.float64)
    for k in range(60):
        W = logs.exp()[:, None]
        values, vectors = torch.linalg.eigh(W * M + (W * M).mT)
        if float(values[0]) > 1e-9 * float(values[-1].abs()):
            return True
        v = vectors[:, 0]
        # d lambda / d log w_i = 2 w_i v_i (M v)_i, for weights of geometric mean 1.
        slope = 2 * W[:, 0] * v * (M @ v)
        slope = slope - slope.mean()
        size = norm_of(slope)
        if size <= 1e-12:
            return False
        logs = logs + slope / size / (1 + k) ** 0.5 * 0.5
    return False
