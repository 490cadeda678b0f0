"""Steepest descent in any norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from steepest._check import one_of
from steepest.errors import InvalidArgument
from steepest.implicit_bias._limits.limit import Limit, Unknown, norm_of
from steepest.implicit_bias._limits.line import line_limit, single_equation
from steepest.implicit_bias._limits.linear import LinearRule, linear_limit
from steepest.implicit_bias._limits.margin import is_quadratic, largest_margin, root_of
from steepest.implicit_bias._limits.rest import resting
from steepest.implicit_bias._limits.separation import Separation, separation
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import Gradient, Rule, Step, inverse_square
from steepest.implicit_bias._rules.sign_descent import sign_scale
from steepest.implicit_bias._sources import NORMS
from steepest.norms import Blockwise, Norm

__all__ = ["NormSteepest"]


@dataclass(frozen=True)
class NormSteepest(Rule):
    """theta <- theta - eta ||g||_* d(g) ("penalized") or theta - eta d(g) ("constrained"), d the norm's duality map.

    On one equation it ends at theta0 + d(a) (b - <a, theta0>) / ||a||_*; on separable data in the direction of largest
    margin in the norm; on several equations nothing is determined, except in norms of an inner product, which are
    gradient descent with a preconditioner.

    Args:
        norm: Any norm of `steepest.norms`, of a vector or of a matrix.
        mode: "penalized" or "constrained".
        shape: The shape of theta for the norm, for matrix norms; by default (n,).

    Raises:
        InvalidArgument: For an invalid norm, mode or shape.

    >>> from steepest.implicit_bias import predict
    >>> from steepest.norms import L1
    >>> predict(NormSteepest(L1()), [[1, 0.1, 0.01]], [1]).point
    tensor([1., 0., 0.], dtype=torch.float64)
    """

    norm: Norm
    mode: Literal["penalized", "constrained"] = "penalized"
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.norm), Norm) or isinstance(self.norm, Blockwise):
            raise InvalidArgument(
                "norm must be a steepest.norms.Norm of one tensor", got=self.norm, remedy="Pass LInf(), say."
            )
        shape = cast("Any", self.shape)
        if shape is not None and not (
            isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)
        ):
            raise InvalidArgument("shape must be a tuple of sizes", got=shape, remedy="Pass (rows, columns).")
        one_of("mode", self.mode, ("penalized", "constrained"))

    @property
    def needs_vanishing_steps(self) -> bool:
        """Whether steps have a constant length."""
        return self.mode == "constrained"

    def limit(self, problem: Problem) -> Limit:
        """Return the limit on one equation, the largest margin, or that of preconditioned gradient descent.

        Raises:
            InvalidArgument: If the shape does not have n entries.
        """
        self._map(problem.theta0)
        if is_quadratic(self.norm):
            root, name = root_of(self.norm, self.shape or (problem.columns,)), "steepest descent in this norm"
            return linear_limit(problem, LinearRule(root, False, False, self.needs_vanishing_steps, name))
        rest = resting(problem, whole=True)
        if rest is not None:
            return rest
        if problem.separable_loss:
            return self._separable(problem)
        a = single_equation(problem)
        if a is not None and not self._smooth_at(a):
            return Unknown(
                "The norm has several steepest directions for this equation, and rounding decides between them.",
                (problem.A, problem.b),
            )
        steps = "that vanish and have an infinite sum" if self.needs_vanishing_steps else "at which it converges"
        return line_limit(
            problem,
            self._map,
            f"On one equation every step is a multiple of d(a), and the solution on that line is the limit, with steps "
            f"{steps} (compare {NORMS}, section 3).",
            f"With several equations the direction of steepest descent turns with the residuals, and where it ends "
            f"depends on the steps ({NORMS}, section 3).",
            shrinking=not self.needs_vanishing_steps,
        )

    def _map(self, g: Tensor) -> Tensor:
        n = g.numel()
        if self.shape is not None and math.prod(self.shape) != n:
            raise InvalidArgument(
                f"shape must have {n} entries, one per column of A",
                got=self.shape,
                remedy="Pass rows and columns of theta.",
            )
        return self.norm.duality_map(g.reshape(self.shape or (n,))).reshape(n)

    def _smooth_at(self, a: Tensor) -> bool:
        """Return whether d is the same, but for the sign, at all multiples of a, and hardly turns near a."""
        here = self._map(a)
        for factor in (-1.0, 0.37, -1e-3, 1e-9, 7e3):
            if norm_of(self._map(factor * a) - math.copysign(1.0, factor) * here) > 1e-12 * norm_of(here):
                return False
        generator = torch.Generator().manual_seed(0)
        for _ in range(8):
            near = a * (1 + 1e-7 * torch.randn(a.shape, generator=generator, dtype=torch.float64))
            if norm_of(self._map(near) - here) > 1e-3 * norm_of(here):
                return False
        return True

    def _separable(self, problem: Problem) -> Limit:
        kind = separation(problem.signed)
        if kind is not Separation.STRICT:
            return Unknown(
                f"The data are not separable, so there is no margin to claim ({kind.value}); where the rule ends among "
                "points of equal loss depends on the steps."
            )
        limit = largest_margin(self.norm, problem.signed) if self.shape is None else None
        if limit is None:
            return Unknown(
                "The margin tends to the largest one in this norm, whose direction is not computed here (it is for "
                "L1, L2, LInf, Lp, Ellipsoid and multiples of them)."
            )
        if not limit.unique:
            return Unknown(
                f"The margin tends to the largest one in this norm, {limit.margin:.6g}, but several directions "
                f"attain it, and which of them theta takes is not known."
            )
        return limit.because(
            "The data are separable: theta diverges, and its direction tends to the largest margin in the norm "
            f"({NORMS}, theorem 5, for the exponential loss, whose tail the logistic loss has), "
            + (
                "with steps that vanish and have an infinite sum."
                if self.needs_vanishing_steps
                else "with small constant steps."
            )
        )

    def step(self, problem: Problem, runs: int) -> Step:  # noqa: ARG002
        """Return one step along the duality map of every run's gradient."""
        shape = self.shape or (problem.columns,)

        def step(theta: Tensor, gradient: Gradient, size: Tensor, _t: int) -> Tensor:
            gs = [g.reshape(shape) for g in gradient(theta)]
            moves = torch.stack([move.reshape(-1) for move in self.norm.duality_maps(gs)])
            if self.mode == "penalized":
                moves = moves * torch.stack([self.norm.dual_norm(g) for g in gs]).reshape(-1, 1)
            return theta - size * moves

        return step

    def scale(self, problem: Problem) -> float:
        """Return the length of a step that crosses the equations at once, over the size of a gradient if penalized."""
        if self.mode == "constrained":
            return sign_scale(problem)
        duals = [self.norm.dual_norm(row.reshape(self.shape or row.shape)) for row in problem.A]
        return inverse_square(torch.stack(duals)[None])
