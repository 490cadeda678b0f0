"""Limits that lie where an affine set of reachable points meets the solutions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steepest.landing._claim import ROUNDING, Certificate, Claim, Unknown, norm_of, reaches, solves_each
from steepest.landing._factors import factors, lengths, solves
from steepest.landing._problem import Problem

__all__ = ["Affine", "Root", "along", "moved_by", "preconditioned", "times"]

Root = Tensor | None
"""A square root W of a preconditioner D = W W': None for the identity, a vector for a diagonal, a matrix."""

_UNCLEAR = (
    "The rank of A cannot be told: it has singular values between rounding and 1e-10 of the largest one, or entries "
    "of very different size, and the limit jumps with the rank."
)


@dataclass(frozen=True, eq=False)
class Affine(Claim):
    """The one point of theta0 + span(steps) whose A theta is as near to b as steps can bring it.

    Attributes:
        reason: The theorem and its source.
        A: m x n.
        target: The m values that A theta takes there.
        theta0: The start.
        limit: The point.
        span: An orthonormal basis, n x r, of the steps' span in the coordinates W^-1 theta.
        root: W.
        exact: Whether A theta = b can be reached.
    """

    reason: str
    A: Tensor
    target: Tensor
    theta0: Tensor
    limit: Tensor
    span: Tensor
    root: Root
    exact: bool

    @property
    def point(self) -> Tensor:
        """The limit."""
        return self.limit

    def because(self, reason: str) -> Affine:
        """Return the same point with another reason."""
        return replace(self, reason=reason)

    def certify(self, theta: Tensor, tolerance: float) -> Certificate:
        """Compare the residual, the distance from the span, and the distance from the limit."""
        due = self.limit - self.theta0
        free, free_due = (_divided(x, self.root) for x in (theta - self.theta0, due))
        distance = norm_of(free - self.span @ (self.span.mT @ free))
        # What rounding of theta is worth where it is divided by W.
        stretched = norm_of(_divided(ROUNDING * (theta.abs() + self.theta0.abs()), self.root))
        near, error = reaches(theta, self.limit, self.theta0, tolerance)
        passed = (
            near
            and distance <= tolerance * norm_of(free_due) + stretched
            and solves_each(self.A, self.target, theta, self.theta0, due, tolerance)
        )
        return Certificate(passed, norm_of(self.A @ theta - self.target), distance, error, tolerance)


def preconditioned(problem: Problem, b: Tensor, root: Root) -> Affine | Unknown:
    """Return theta0 + D A' (A D A')^+ (b - A theta0), D = W W', or say that the rank of A W is unclear.

    Args:
        problem: With A and theta0.
        b: m targets, the problem's own or others.
        root: W.
    """
    A, theta0 = problem.A, problem.theta0
    if root is not None and bool(root.any()):
        root = root / root.abs().max()  # limits do not depend on D's units, and squares could overflow
    C = moved_by(root, A)
    if not bool(C.isfinite().all()):
        return Unknown("A times the square root of the preconditioner is out of the range of float64.", (A, b))
    if not bool(C.any()):
        nothing = A.new_zeros(A.shape[1], 0)
        exact = solves(A, theta0, b, problem.slack)
        return Affine("", A, A @ theta0, theta0, theta0, nothing, root, exact)
    size = lengths(C)
    found = factors(C / size[:, None], problem.precision)
    if not found.clear:
        return Unknown(_UNCLEAR, (A, b))

    def solution(start: Tensor) -> Tensor:
        # Refined, so that every row holds to its own rounding (Skeel 1980).
        theta = start
        for _ in range(3):
            theta = theta + times(root, found.solve((b - A @ theta) / size))
        return theta

    full = found.rank == A.shape[0]
    # Whether the equations have a solution does not depend on where theta starts, but on what cannot move.
    still = _unmoved(root, theta0)
    nearest = solution(still)
    # What is left must be rounding, and must not move theta, however the rows are weighted.
    left, way = (b - A @ nearest) / size, norm_of(_divided(nearest - still, root))
    harmless = full or norm_of(left) <= max(1e-9, 10 * problem.slack) * way * float(found.singular_values[-1])
    if full or (harmless and solves(A, nearest, b, problem.slack)):
        theta = solution(theta0)
        return Affine("", A, b if full else A @ theta, theta0, theta, found.right, root, exact=True)
    # In least squares the rows count by their lengths.
    found = factors(C, problem.precision)
    if not found.clear:
        return Unknown(_UNCLEAR, (A, b))
    due = b - A @ theta0
    moved, left = found.solve(due), due - found.reachable(due)
    largest = float(found.singular_values[0])
    # Least squares feel rounding of A by the square of its condition (Wedin 1973).
    if torch.finfo(torch.float64).eps * found.condition**2 * norm_of(left) > 1e-8 * norm_of(moved) * largest:
        return Unknown(
            "The equations contradict each other, and A is too close to a lower rank for float64 to find the least "
            "squares to 1e-8.",
            (A, b),
        )
    theta = theta0 + times(root, moved)
    return Affine("", A, A @ theta0 + found.reachable(due), theta0, theta, found.right, root, exact=False)


def along(problem: Problem, steps: Tensor) -> Affine | None:
    """Return the solution of A theta = b in theta0 + the span of `steps`, or None where there is not exactly one.

    Args:
        problem: A x = b has a solution.
        steps: n x k.
    """
    A, b, theta = problem.A, problem.b, problem.theta0
    C = A @ steps
    size = lengths(C)
    found = factors(C / size[:, None], problem.precision)
    if not found.clear or found.rank < steps.shape[1]:
        return None
    for _ in range(3):
        theta = theta + steps @ found.solve((b - A @ theta) / size)
    if not solves_each(A, b, theta, problem.theta0, theta - problem.theta0, max(1e-9, problem.slack)):
        return None
    target = b if found.rank == A.shape[0] else A @ theta
    return Affine("", A, target, problem.theta0, theta, torch.linalg.qr(steps).Q, None, exact=True)


def _unmoved(root: Root, theta0: Tensor) -> Tensor:
    return torch.where(root == 0, theta0, 0) if root is not None and root.ndim == 1 else torch.zeros_like(theta0)


def times(root: Root, x: Tensor) -> Tensor:
    """Return W x."""
    return x if root is None else x * root if root.ndim == 1 else root @ x


def moved_by(root: Root, rows: Tensor) -> Tensor:
    """Return rows W."""
    return rows if root is None else rows * root if root.ndim == 1 else rows @ root


def _divided(x: Tensor, root: Root) -> Tensor:
    """Return W^-1 x; where W is 0, x itself, which must then be 0."""
    if root is None:
        return x
    if root.ndim == 1:
        return x / torch.where(root > 0, root, 1)
    return torch.linalg.solve(root, x)
