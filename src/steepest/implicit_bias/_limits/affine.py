"""Limits that lie where an affine set of reachable points meets the solutions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steepest.implicit_bias._limits.limit import ROUNDING, Certificate, Limit, norm_of, reaches, rests, solves_each
from steepest.implicit_bias._numerics.decomposition import factors, lengths
from steepest.implicit_bias._problem import Problem

__all__ = ["Affine", "Root", "along", "moved_by", "times", "well_known"]

Root = Tensor | None
"""A square root W of a preconditioner D = W W': None for the identity, a vector for a diagonal, a matrix."""


@dataclass(frozen=True, eq=False)
class Affine(Limit):
    """The one point of theta0 + span(steps) whose A theta is as near to b as steps can bring it.

    Attributes:
        reason: The theorem and its source.
        A: m x n.
        target: The m values that A theta takes there.
        theta0: The start.
        limit: The point.
        rounding: A bound on the rounding error of each coordinate of the limit, from it and from its inputs.
        span: An orthonormal basis, n x r, of the steps' span in the coordinates W^-1 theta.
        still: The coordinates that no step moves, or None if all are moved.
        root: W.
        exact: Whether A theta = b can be reached.
    """

    reason: str
    A: Tensor
    target: Tensor
    theta0: Tensor
    limit: Tensor
    rounding: Tensor
    span: Tensor
    still: Tensor | None
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
        # The limit lies in theta0 + the span.
        free, free_due = (_divided(x, self.root) for x in (theta - self.limit, due))
        distance = norm_of(free - self.span @ (self.span.mT @ free))
        # What rounding of theta is worth where it is divided by W.
        stretched = norm_of(_divided(self.rounding, self.root))
        near, error = reaches(theta, self.limit, self.theta0, self.rounding, tolerance)
        passed = (
            near
            and distance <= tolerance * norm_of(free_due) + stretched
            and rests(theta, self.theta0, self.still)
            and solves_each(self.A, self.target, theta, self.theta0, due, self.rounding, tolerance)
        )
        return Certificate(passed, norm_of(self.A @ theta - self.target), distance, error, tolerance)


def along(problem: Problem, steps: Tensor) -> Affine | None:
    """Return the solution of A theta = b in theta0 + the span of `steps`, or None where there is not exactly one.

    Args:
        problem: A x = b has a solution.
        steps: n x k.
    """
    A, b, theta0 = problem.A, problem.b, problem.theta0
    C = A @ steps
    size = lengths(C)
    found = factors(C / size[:, None], problem.precision)
    if not found.clear or found.rank < steps.shape[1]:
        return None
    theta, shares = theta0, steps.new_zeros(steps.shape[1])
    for _ in range(2 if found.condition <= 1e3 else 3):
        shares = shares + found.solve((b - A @ theta) / size)
        theta = theta0 + steps @ shares
    sums = theta0.abs() + steps.abs() @ shares.abs()
    missed = ROUNDING * norm_of((A.abs() @ sums + b.abs()) / size) + norm_of(found.left.mT @ ((b - A @ theta) / size))
    longest = torch.linalg.vector_norm(steps, dim=1) / found.singular_values[-1]
    rounding = ROUNDING * sums + longest * missed
    if not well_known(theta, theta0, rounding):
        return None
    # Rows that depend on the others hold to the rounding of what went into them.
    if not solves_each(A, b, theta, theta0, theta - theta0, rounding, max(1e-9, problem.slack)):
        return None
    target = b if found.rank == A.shape[0] else A @ theta
    still = ~steps.any(dim=1)
    return Affine("", A, target, theta0, theta, rounding, torch.linalg.qr(steps).Q, still, None, exact=True)


def well_known(limit: Tensor, theta0: Tensor, rounding: Tensor) -> bool:
    """Return whether the limit is known to 1e-9 of the way there, or to the rounding of where theta starts."""
    return norm_of(rounding) <= max(1e-9 * norm_of(limit - theta0), 1e-14 * norm_of(theta0))


def times(root: Root, x: Tensor) -> Tensor:
    """Return W x, of a vector or a matrix."""
    if root is None:
        return x
    return root @ x if root.ndim == 2 else (root * x.mT).mT if x.ndim == 2 else root * x


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
