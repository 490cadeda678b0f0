"""Bregman projections onto the solutions of linear equations: where mirror descent ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.implicit_bias._limits.limit import ROUNDING, Certificate, Limit, norm_of, reaches, rests, solves_each
from steepest.implicit_bias._numerics.decomposition import Factors, lengths
from steepest.implicit_bias._numerics.newton import minimum
from steepest.implicit_bias._numerics.polish import polish
from steepest.implicit_bias._potentials import PNorm, Potential

__all__ = ["BregmanProjection", "project"]

_RESOLVED = 1e-11
_MOST_CURVED = 600.0
_MOST_FREE = 500
_MOST_DIGITS = 150_000
"""Where exponents, null spaces and products in many digits get out of hand."""


@dataclass(frozen=True, eq=False)
class BregmanProjection(Limit):
    """The solution of A theta = t that is nearest to theta0 in the Bregman divergence of a potential.

    It is the one with grad psi(theta) - grad psi(theta0) in the row space of A.

    Attributes:
        reason: The theorem and its source.
        potential: psi.
        A: m x n.
        target: t, m.
        rows: The singular value decomposition of A, its rows scaled to length 1.
        theta0: The start.
        limit: The point.
        unsure: What rounding in t is relative to, beside itself.
    """

    reason: str
    potential: Potential
    A: Tensor
    target: Tensor
    rows: Factors
    theta0: Tensor
    limit: Tensor
    unsure: float

    @property
    def point(self) -> Tensor:
        """The limit."""
        return self.limit

    def certify(self, theta: Tensor, tolerance: float) -> Certificate:
        """Compare the residual, the distance of the mirrored move from the row space, and that from the limit."""
        residual, due = norm_of(self.A @ theta - self.target), self.limit - self.theta0
        rounding = self._rounding()
        near, error = reaches(theta, self.limit, self.theta0, rounding, tolerance)
        if not self.potential.contains(theta):
            return Certificate(False, residual, torch.inf, error, tolerance)
        start = self.potential.gradient(self.theta0)
        moved = self.potential.gradient(theta) - start
        distance = norm_of(moved - self.rows.right @ (self.rows.right.mT @ moved))
        way = norm_of(self.potential.gradient(self.limit) - start)
        passed = (
            near
            and distance <= tolerance * way + self._steepness(tolerance, rounding)
            and rests(theta, self.theta0, self.rows.still)
            and solves_each(self.A, self.target, theta, self.theta0, due, rounding, tolerance)
        )
        return Certificate(passed, residual, distance, error, tolerance)

    def _rounding(self) -> Tensor:
        """Return how much of each coordinate may be rounding, of it and of what goes into the equations."""
        sizes = self.limit.abs() + self.theta0.abs()
        rows = (self.A.abs() @ sizes + self.target.abs() + self.unsure) / lengths(self.A)
        least = float(self.rows.singular_values[-1]) if self.rows.rank else 1.0
        return ROUNDING * (sizes + norm_of(rows) / least)

    def _steepness(self, tolerance: float, rounding: Tensor) -> float:
        """Return how far the mirrored limit moves where theta does by the tolerance: much near 0, for p near 1."""
        step = tolerance * norm_of(self.limit - self.theta0) + rounding
        here = self.potential.gradient(self.limit)
        sides = [self.potential.gradient(self.limit + sign * step) - here for sign in (-1, 1)]
        furthest = torch.maximum(*(side.abs().nan_to_num(nan=torch.inf) for side in sides))
        return norm_of(furthest + ROUNDING * here.abs())


def project(potential: Potential, theta0: Tensor, rows: Factors, target: Tensor) -> Tensor | None:
    """Return the minimiser of psi(theta) - <grad psi(theta0), theta> over A theta = t, or None if it cannot be found.

    The caller certifies it.

    Args:
        potential: psi.
        theta0: The start, in psi's domain.
        rows: The singular value decomposition of A, its rows scaled to length 1.
        target: t, scaled alike.
    """
    basis = rows.right
    if rows.rank == 0:
        return theta0
    goal = (rows.left.mT @ target) / rows.singular_values
    start = potential.gradient(theta0)
    if type(potential) is not PNorm:
        return _dual(potential, start, basis, goal, goal.new_zeros(len(goal)))
    if max(potential.p, potential.p / (potential.p - 1)) > _MOST_CURVED:
        return None  # powers of nearly everything are 0
    # |x|^p is homogeneous: in units in which nothing is far from 1 no power overflows.
    unit = max(norm_of(goal), norm_of(theta0))
    if unit == 0:
        return theta0
    theta = theta0 / unit + basis @ (goal / unit - basis.mT @ theta0 / unit)
    for p in _way_to(potential.p):
        near, mirrored = PNorm(p), PNorm(p).gradient(theta0 / unit)
        if p > 2 and len(theta) - rows.rank <= _MOST_FREE:
            theta = _primal(near, mirrored, basis, theta)
        else:
            multipliers = basis.mT @ (near.gradient(theta) - mirrored)
            theta = _dual(near, mirrored, basis, goal / unit, multipliers)
    if potential.p > 2 and not _resolution(potential, basis, theta) <= _RESOLVED * norm_of(theta):
        if len(theta) * rows.rank**2 > _MOST_DIGITS:
            return None
        polished = polish(potential.p, potential.gradient(theta0 / unit), basis, goal / unit, theta)
        return None if polished is None else polished * unit
    return theta * unit


def _resolution(potential: Potential, basis: Tensor, theta: Tensor) -> float:
    """Return how far theta can be off as its gradient is rounded: by that over the least curvature that is left."""
    if basis.shape[0] == basis.shape[1]:
        return 0.0
    curvature = potential.curvature(theta)
    rounding = torch.finfo(torch.float64).eps * norm_of(potential.gradient(theta))
    least = float(curvature.min())
    if rounding > _RESOLVED * norm_of(theta) * least and basis.shape[0] - basis.shape[1] <= _MOST_FREE:
        null = _complement(basis)
        least = float(torch.linalg.eigvalsh((null.mT * curvature) @ null)[0])
    return rounding / least if least > 0 else math.inf


def _complement(basis: Tensor) -> Tensor:
    return torch.linalg.qr(basis, mode="complete").Q[:, basis.shape[1] :]


def _way_to(p: float) -> list[float]:
    """Return exponents from 2 to p, in steps over which a solution stays a good start."""
    larger, conjugate = p >= 2, p / (p - 1)
    end = p if larger else conjugate
    count = max(1, math.ceil(math.log(end / 2) / math.log(6)))
    way = [2 * (end / 2) ** (k / count) for k in range(1, count)]
    return [*(q if larger else q / (q - 1) for q in way), p]


def _dual(potential: Potential, start: Tensor, basis: Tensor, goal: Tensor, multipliers: Tensor) -> Tensor:
    """Minimise psi*(z0 + Q l) - <goal, l> over the multipliers l; theta is the gradient of psi* there."""

    def function(l: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: E741
        z = start + basis @ l
        theta = potential.inverse_gradient(z)
        conjugate = z * theta - potential(theta)
        slope = 1 / potential.curvature(theta)
        return conjugate.sum() - goal @ l, basis.mT @ theta - goal, (basis.mT * slope) @ basis

    return potential.inverse_gradient(start + basis @ minimum(function, multipliers))


def _primal(potential: Potential, start: Tensor, basis: Tensor, theta: Tensor) -> Tensor:
    """Minimise psi(theta) - <z0, theta> over theta + the null space: for p > 2, where psi* has no second derivative."""
    if basis.shape[0] == basis.shape[1]:
        return theta
    null = _complement(basis)

    def function(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = theta + null @ y
        slopes = potential.gradient(x) - start
        value = (potential(x) - start * x).sum()
        return value, null.mT @ slopes, (null.mT * potential.curvature(x)) @ null

    return theta + null @ minimum(function, theta.new_zeros(null.shape[1]))
