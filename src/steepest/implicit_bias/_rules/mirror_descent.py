"""Mirror descent: gradients move grad psi(theta) instead of theta."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from steepest._check import instance, one_of
from steepest.errors import InvalidArgument
from steepest.implicit_bias import _sources as sources
from steepest.implicit_bias._limits.bregman import BregmanProjection, project
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.linear import targets_at_minimum
from steepest.implicit_bias._limits.margin import largest_margin
from steepest.implicit_bias._limits.preconditioned import preconditioned
from steepest.implicit_bias._limits.rest import resting
from steepest.implicit_bias._limits.separation import Separation, linear_program, separation
from steepest.implicit_bias._numerics.decomposition import factors, lengths
from steepest.implicit_bias._potentials import Entropy, PNorm, Potential
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import Gradient, Rule, Step, check_batch_size, check_momentum, inverse_square
from steepest.norms import L2, Lp

__all__ = ["MirrorDescent"]


@dataclass(frozen=True)
class MirrorDescent(Rule):
    """grad psi(theta') = grad psi(theta) - eta g, for a strictly convex potential psi.

    On A theta = b it ends at the Bregman projection of theta0: the solution that minimises
    psi(theta) - <grad psi(theta0), theta>. For psi = |x|^p / p and separable data its direction tends to that of the
    largest Lp margin.

    Args:
        potential: `Entropy`, `PNorm`, `Hypentropy`, or a user's `Potential`.
        momentum: In [0, 1).
        momentum_on: What the momentum accumulates: "primal", theta' = step + momentum (theta - previous theta), for
            which the projection is no longer the limit, or "dual", the gradients, for which it is.
        batch_size: Rows per step; None for all.

    Raises:
        InvalidArgument: For values out of range.

    >>> from steepest.implicit_bias import Entropy, predict
    >>> predict(MirrorDescent(Entropy()), [[1, 1, 1]], [6.0]).point.round(decimals=9)
    tensor([2., 2., 2.], dtype=torch.float64)
    """

    potential: Potential
    momentum: float = 0.0
    momentum_on: Literal["primal", "dual"] = "primal"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        remedy = "Pass Entropy(), PNorm(3) or Hypentropy(1)."
        instance("potential", self.potential, Potential, "a Potential", remedy=remedy)
        one_of("momentum_on", self.momentum_on, ("primal", "dual"))
        check_momentum(self.momentum)
        check_batch_size(self.batch_size)

    def start(self, n: int) -> Tensor:
        """Return where psi is smallest."""
        return self.potential.start(n)

    def limit(self, problem: Problem) -> Limit:
        """Return the Bregman projection, or the largest Lp margin.

        Raises:
            InvalidArgument: If theta0 is outside of the potential's domain.
        """
        if not self.potential.contains(problem.theta0):
            raise InvalidArgument(
                f"theta0 must lie where {self.potential} is differentiable",
                got=problem.theta0.tolist()[:10],
                remedy="Start above 0." if bool((problem.theta0 <= 0).any()) else "",
            )
        rest = resting(problem, self.sees_all(problem))
        if rest is not None:
            return rest
        if problem.separable_loss:
            return self._separable(problem)
        if self._loses_track:
            return Unknown(
                "With momentum on the primal iterate grad psi(theta) leaves grad psi(theta0) + range(A'), and where "
                f"theta ends depends on the steps ({sources.NORMS}, section 2; only quadratic potentials are safe).",
                (problem.A, problem.b),
            )
        return self._projection(problem, problem.b)

    @property
    def _loses_track(self) -> bool:
        quadratic = type(self.potential) is PNorm and self.potential.p == 2
        return self.momentum > 0 and self.momentum_on == "primal" and not quadratic

    def _projection(self, problem: Problem, b: Tensor) -> Limit:
        size = lengths(problem.A)
        rows = factors(problem.A / size[:, None], problem.precision)
        only = None
        if not rows.clear or rows.rank < problem.rows or rows.rank == problem.columns:
            nearest = preconditioned(problem, b, None)
            if isinstance(nearest, Unknown):
                return nearest
            if not nearest.exact:
                return Unknown(
                    "The equations contradict each other; the projection is known for equations that have a solution.",
                    (problem.A, nearest.target),
                )
            only = nearest.limit if nearest.span.shape[1] == problem.columns else None
        theta = project(self.potential, problem.theta0, rows, b / size) if only is None else only
        if theta is None:
            return Unknown("The Bregman projection is the limit, but could not be computed to 1e-9.", (problem.A, b))
        theta = torch.where(problem.A.any(dim=0), theta, problem.theta0)
        limit = BregmanProjection(
            "Mirror descent moves grad psi(theta) within range(A') only, and the one solution of A theta = b with "
            "grad psi(theta) - grad psi(theta0) there, the Bregman projection of theta0, is the limit, with steps at "
            f"which it converges ({sources.NORMS}, theorem 1; minibatches: {sources.MIRROR_MINIBATCHES}).",
            self.potential,
            problem.A,
            b if rows.rank == problem.rows else problem.A @ theta,
            rows,
            problem.theta0,
            theta,
            float(problem.separable_loss),
        )
        if self._well_inside(problem, b, theta):
            return limit
        return Unknown(
            "No solution was found well inside of the potential's domain, and the theorem says nothing of limits on "
            "its border.",
            (problem.A, b),
        )

    def _well_inside(self, problem: Problem, b: Tensor, theta: Tensor) -> bool:
        """Return whether there is a solution inside of the domain: at once where theta is one, else by a program."""
        if type(self.potential) is not Entropy:
            return self.potential.contains(theta)
        if bool(b.any()) and bool((theta > 1e-6 * _unit(problem, b)).all() & theta.isfinite().all()):
            return True
        return _largest_least_entry(problem, b) > 1e-8

    def _separable(self, problem: Problem) -> Limit:
        kind = separation(problem.signed)
        if kind is Separation.NONE:
            return self._finite(problem)
        if kind is not Separation.STRICT:
            return Unknown(f"There is no margin to claim and no finite minimiser: {kind.value}.")
        if type(self.potential) is not PNorm or self.momentum or not self.sees_all(problem):
            return Unknown(
                "The data are separable, so theta diverges; its direction is known for mirror descent with "
                "psi = |x|^p / p, full batches and no momentum."
            )
        limit = largest_margin(Lp(self.potential.p) if self.potential.p != 2 else L2(), problem.signed)
        if limit is None:
            return Unknown("The direction of largest Lp margin is the limit, but could not be computed to 1e-9.")
        return limit.because(
            f"The data are separable: theta diverges, and its direction tends to the largest margin in the "
            f"L{self.potential.p:g} norm ({sources.MIRROR_MARGIN}), with small steps."
        )

    def _finite(self, problem: Problem) -> Limit:
        target = targets_at_minimum(problem, None)
        if target is None:
            return Unknown("The rank of A is ambiguous, or the finite minimiser could not be computed.")
        if not self.sees_all(problem) or self._loses_track:
            return Unknown(
                "The data are not separable, so there is no margin to claim; which of the minimisers is reached is "
                "known for full batches without momentum on the primal iterate.",
                (problem.A, target),
            )
        limit = self._projection(problem, target)
        if not isinstance(limit, BregmanProjection):
            return limit
        return replace(
            limit,
            reason="The data are not separable, so there is no margin to claim. The minimisers share A theta, and "
            "mirror descent moves grad psi(theta) within range(A'): if it converges, it ends at the Bregman "
            f"projection of theta0 onto them ({sources.NORMS}, theorem 1, with A theta at the minimum in place of b).",
        )

    def step(self, problem: Problem, runs: int) -> Step:
        """Return one step on the mirrored iterate, with its momentum."""
        shape = (runs, problem.columns)
        velocity = torch.zeros(shape, dtype=torch.float64)
        previous = problem.theta0.expand(shape).clone()
        mirrored = self.potential.gradient(previous)
        on_primal = self.momentum > 0 and self.momentum_on == "primal"

        def step(theta: Tensor, gradient: Gradient, size: Tensor, _t: int) -> Tensor:
            g = gradient(theta)
            if not on_primal:
                velocity.mul_(self.momentum).add_(g)
                mirrored.sub_(size * velocity)
                return self.potential.inverse_gradient(mirrored)
            new = self.potential.inverse_gradient(self.potential.gradient(theta) - size * g)
            new = new + self.momentum * (theta - previous)
            previous.copy_(theta)
            return new

        return step

    def scale(self, problem: Problem) -> float:
        """Return 1 / the largest eigenvalue of A'A, times the potential's curvature at the start or at 1."""
        curvature = self.potential.curvature(problem.theta0.abs().clamp_min(1.0))
        return (1 - self.momentum) * float(curvature.min()) * inverse_square(problem.A)


def _largest_least_entry(problem: Problem, b: Tensor) -> float:
    """Return the largest t with a solution whose entries are all >= t, in units of the size of a solution."""
    n, A, target = problem.columns, problem.A.numpy(), b.numpy()
    unit = _unit(problem, b)
    slack = 1e-12 * float(problem.A.abs().max()) * unit
    zeros, ones = np.zeros((problem.rows, 1)), np.ones((n, 1))
    rows = np.vstack([np.c_[A, zeros], np.c_[-A, zeros], np.c_[-np.eye(n), ones]])
    bounds = np.r_[target + slack, -target + slack, np.zeros(n)]
    found = linear_program(np.r_[np.zeros(n), -1.0], rows, bounds, [(None, None)] * n + [(-unit, unit)])
    return -float(found.fun) / unit if found.status == 0 else -1.0


def _unit(problem: Problem, b: Tensor) -> float:
    """Return the size of a solution: that of b over A; 1 where b is 0 and solutions have any size."""
    return float((b.abs() / lengths(problem.A)).max()) or 1.0
