"""Starts that no gradient moves."""

from __future__ import annotations

import torch

from steepest.implicit_bias._limits.affine import Affine
from steepest.implicit_bias._limits.limit import ROUNDING
from steepest.implicit_bias._numerics.rational import is_zero
from steepest.implicit_bias._problem import Problem

__all__ = ["resting"]

_MOST = 20_000
"""Entries of A, beyond which it is not looked whether a gradient is exactly 0."""


def resting(problem: Problem, whole: bool) -> Affine | None:
    """Return theta0 as the limit, if the gradient of every batch is 0 there, exactly; else None.

    Args:
        problem: With any loss.
        whole: Whether every batch is of all rows, so that their gradients may cancel.
    """
    A, b, theta0 = problem.A, problem.b, problem.theta0
    if not bool(A.any()):
        reason = "No row of A has an entry that is not 0, so no gradient moves theta: it stays where it starts."
    elif problem.separable_loss:
        # All margins are 0 and weigh their rows alike; of other margins nothing is exactly known.
        if not whole or bool(theta0.any()) or not _cancel(problem):
            return None
        reason = "The gradients of all examples cancel at theta0 exactly: theta stays where it starts."
    else:
        left = A @ theta0 - b
        slope, largest = A.mT @ left, float(A.abs().max())
        reach = largest * (largest * float(theta0.abs().sum()) + float(b.abs().max()))
        if float(slope.abs().max()) > 1e-9 * len(A) * reach:
            return None
        lost = ROUNDING * (A.abs() @ theta0.abs() + b.abs())
        solved = bool((left.abs() <= lost).all())
        cancel = whole and bool((slope.abs() <= A.mT.abs() @ (ROUNDING * left.abs() + lost)).all())
        # Nearly 0 is not 0: a step along signs would be as long as any other.
        if not (solved or cancel) or A.numel() > _MOST or not is_zero(A, theta0, b, together=not solved):
            return None
        which = "A theta0 = b holds" if solved else "The gradients of all rows cancel at theta0"
        reason = f"{which} exactly: no gradient moves theta, and it stays where it starts."
    nothing, still = A.new_zeros(A.shape[1], 0), torch.ones_like(theta0, dtype=torch.bool)
    return Affine(reason, A, A @ theta0, theta0, theta0, torch.zeros_like(theta0), nothing, still, None, exact=True)


def _cancel(problem: Problem) -> bool:
    if bool((problem.signed.sum(dim=0).abs() > ROUNDING * problem.A.abs().sum(dim=0)).any()):
        return False
    ones, nothing = torch.ones_like(problem.b), torch.zeros_like(problem.theta0)
    return problem.A.numel() <= _MOST and is_zero(problem.signed, nothing, ones, together=True)
