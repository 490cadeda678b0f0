"""The limits of rules that are not linear maps of gradients, on squared losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steepest.implicit_bias._limits.affine import along
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.preconditioned import preconditioned
from steepest.implicit_bias._numerics.decomposition import lengths
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._sources import GENERAL_NORMS

__all__ = ["line_limit", "single_equation", "unique_solution"]


def single_equation(problem: Problem) -> Tensor | None:
    """Return a where all rows of A are multiples of it (the largest row), else None."""
    rows = problem.A
    a = rows[int(lengths(rows).where(rows.any(dim=1), 0).argmax())]
    if not bool(a.any()):
        return None
    if len(rows) == 1:
        return a
    unit = a / a.abs().max()
    multiples = (rows @ unit / (unit @ unit))[:, None]
    same = (rows - multiples * unit).abs() <= 4 * torch.finfo(torch.float64).eps * (multiples * unit).abs()
    return a if bool(same.all()) else None


def line_limit(
    problem: Problem, direction: Callable[[Tensor], Tensor], reason: str, several: str, shrinking: bool = False
) -> Limit:
    """Return the limit on one equation, where every step is a multiple of d(a), or why there is none.

    Args:
        problem: With the squared loss.
        direction: a -> the direction of all steps on the equation <a, theta> = b.
        reason: Why that is the limit.
        several: The reason to give for several equations.
        shrinking: Whether the length of a step is a multiple of ||g||_*, rather than given by a schedule.
    """
    a = single_equation(problem)
    if a is None:
        return unique_solution(problem, shrinking) or Unknown(several, (problem.A, problem.b))
    if problem.rows > 1:
        nearest = preconditioned(problem, problem.b, None)
        if isinstance(nearest, Unknown):
            return nearest
        if not nearest.exact:
            return Unknown(
                "The equations contradict each other, and this rule's steps do not shrink as their gradients cancel: "
                "where it ends depends on the steps.",
                (problem.A, nearest.target),
            )
    limit = along(problem, direction(a)[:, None])
    if limit is None:
        return Unknown("No step along the rule's direction solves the equation.", (problem.A, problem.b))
    return limit.because(reason)


def unique_solution(problem: Problem, shrinking: bool) -> Limit | None:
    """Return the solution of equations that have exactly one, which full-batch steepest descent has to find.

    Args:
        problem: With the squared loss.
        shrinking: Whether the length of a step is a multiple of ||g||_*, rather than given by a schedule.
    """
    if problem.rows < problem.columns:
        return None
    nearest = preconditioned(problem, problem.b, None)
    if isinstance(nearest, Unknown) or not nearest.exact:
        return None
    if nearest.span.shape[1] < problem.columns:
        return None
    falls = "f(theta - eta d) <= f - eta ||g||_* + eta^2 C / 2, C the largest ||A d||^2 over ||d|| <= 1"
    if shrinking:
        return nearest.because(
            f"The equations have exactly one solution. As {falls}, the loss f falls with eta = lr ||g||_*, lr < 2 / C, "
            f"for as long as there is a gradient ({GENERAL_NORMS}): it ends there, with steps at which it converges."
        )
    return nearest.because(
        f"The equations have exactly one solution. As {falls}, the loss f falls at every step that is small against "
        f"its gradient ({GENERAL_NORMS}), so steps that vanish and have an infinite sum end there."
    )
