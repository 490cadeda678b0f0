"""The oscillation in which rules of constant step length end on one equation."""

from __future__ import annotations

import math
import sys

from steepest.errors import InvalidArgument
from steepest.implicit_bias._problem import ArrayLike, numbers_of, vector
from steepest.implicit_bias._tails import Schedule, tail_of

__all__ = ["two_cycle"]

_MOST = 1e12


def two_cycle(
    a: ArrayLike,
    lr: float | Schedule,
    b: float = 1.0,
    theta0: ArrayLike | None = None,
) -> tuple[float, float]:
    """Return both absolute residuals between which sign descent on <a, theta> = b oscillates forever.

    Each step changes the residual r by c = ||a||_1 lr. With k = |r_0| / c the residual shrinks floor(k) times and then
    alternates between c frac(k) and c (1 - frac(k)); only a whole k converges, (0, 0). The same holds for an
    epoch-preconditioned rule. With a schedule whose sum is too small the residual stays where the steps end, and both
    values are equal.

    Args:
        a: The n coefficients of the equation, not all 0.
        lr: The step size, > 0, or a schedule t -> step size.
        b: Its right-hand side.
        theta0: The n starting values; zeros if None.

    Returns:
        The smaller and the larger |residual|.

    Raises:
        InvalidArgument: For an invalid step size or equation, or a schedule whose end cannot be seen.

    >>> small, large = two_cycle([1, 0.1, 0.01], lr=0.01)
    >>> round(small, 12), round(large, 12)
    (0.001, 0.0101)
    >>> round(two_cycle([1, 0.1, 0.01], lr=lambda t: 0.05 * 0.9**t)[0], 12)  # .05 / (1 - .9) * 1.11 is not enough
    0.445
    """
    given = numbers_of("a", a)
    row = vector("a", given, given.numel(), "the coefficients of one equation")
    goal = float(vector("b", b, 1, "one right-hand side"))
    start = 0.0 if theta0 is None else float(row @ vector("theta0", theta0, len(row), "one number for each of a"))
    reach = float(row.abs().sum())
    if not 0 < reach < math.inf:
        raise InvalidArgument("a must have an entry that is not 0", got=row.tolist()[:10], remedy="Drop the equation.")
    residual = abs(goal - start)
    if callable(lr):
        return _after_schedule(residual, reach, lr)
    step = float(vector("lr", lr, 1, "one step size"))
    c = reach * step
    if not (step > 0 and c > 0 and residual / c < _MOST):
        raise InvalidArgument(
            "lr must be above 0, and at most 1e12 such steps reach the solution", got=lr, remedy="Try 0.01."
        )
    k = residual / c
    if abs(k - round(k)) <= 8 * sys.float_info.epsilon * max(1.0, k):
        return 0.0, 0.0
    return _cycle(residual, c)


def _cycle(residual: float, c: float) -> tuple[float, float]:
    left = math.fmod(residual, c)
    return min(left, c - left), max(left, c - left)


def _after_schedule(residual: float, reach: float, schedule: Schedule) -> tuple[float, float]:
    tail = tail_of(schedule)
    if tail.converges and tail.total * reach >= residual * (1 - 1e-12):
        return 0.0, 0.0
    for step in tail.steps:
        residual = abs(residual - reach * float(step))
    if tail.ends:
        return residual, residual
    if tail.constant:
        return _cycle(residual, reach * float(tail.steps[-1]))
    raise InvalidArgument(
        "the end of the schedule must be seen: its steps converge, end, or become constant",
        got=tail.note or f"a sum of {tail.total:.3g} within 2^60 steps",
        remedy="Pass a number, or a schedule that comes to its end within 65,536 steps.",
    )
