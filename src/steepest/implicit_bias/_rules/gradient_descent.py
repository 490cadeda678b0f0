"""Gradient descent, with momentum, with a fixed preconditioner, or in rescaled features."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from steepest._check import boolean
from steepest.errors import InvalidArgument
from steepest.implicit_bias._limits.affine import Root, moved_by
from steepest.implicit_bias._limits.limit import Limit
from steepest.implicit_bias._limits.linear import LinearRule, linear_limit
from steepest.implicit_bias._problem import ArrayLike, Problem, numbers_of, vector
from steepest.implicit_bias._rules.rule import Gradient, Rule, Step, check_batch_size, check_momentum, inverse_square

__all__ = ["GradientDescent", "Preconditioned", "RescaledFeatures"]


@dataclass(frozen=True, kw_only=True)
class _LinearDescent(Rule):
    """theta <- theta - eta D v, v the (accumulated) gradient: abstract in D alone."""

    momentum: float = 0.0
    nesterov: bool = False
    batch_size: int | None = None

    @abstractmethod
    def root(self, problem: Problem) -> Root:
        """Return W, D = W W'."""

    def metric(self) -> Tensor | None:
        """Return D, where it is given rather than W."""
        return None

    @property
    @abstractmethod
    def name(self) -> str:
        """How a sentence calls the rule."""

    def __post_init__(self) -> None:
        check_momentum(self.momentum)
        boolean("nesterov", self.nesterov)
        check_batch_size(self.batch_size)

    def limit(self, problem: Problem) -> Limit:
        """Return theta0 + D A' (A D A')^+ (b - A theta0), or the largest margin, or the finite minimiser."""
        nesterov, minibatches = self.nesterov and self.momentum > 0, not self.sees_all(problem)
        rule = LinearRule(self.root(problem), nesterov, minibatches, False, self.name, self.metric())
        return linear_limit(problem, rule)

    def step(self, problem: Problem, runs: int) -> Step:
        """Return torch's SGD step, D times its update."""
        root, momentum, nesterov = self.root(problem), self.momentum, self.nesterov
        buffer = torch.zeros(runs, problem.columns, dtype=torch.float64) if momentum else None

        def step(theta: Tensor, gradient: Gradient, size: Tensor, _t: int) -> Tensor:
            update = gradient(theta)
            if buffer is not None:
                buffer.mul_(momentum).add_(update)
                update = update + momentum * buffer if nesterov else buffer
            if root is not None:
                update = update * root.square() if root.ndim == 1 else update @ root @ root.mT
            return theta - size * update

        return step

    def scale(self, problem: Problem) -> float:
        """Return 1 / the largest eigenvalue of D A'A (a quarter of it for the logistic loss)."""
        steepest = inverse_square(moved_by(self.root(problem), problem.A))
        return (1 - self.momentum) * (4 if problem.loss == "logistic" else 1) * steepest


@dataclass(frozen=True)
class GradientDescent(_LinearDescent):
    """Gradient descent and SGD: theta <- theta - eta v, v the gradient or, as in torch's SGD, its momentum buffer.

    On A theta = b it ends at theta0 + A^+ (b - A theta0), the solution nearest to theta0, whatever the steps (at which
    it converges), the momentum and the order; on contradicting equations, with full batches, at the nearest of the
    least-squares solutions. On separable data its direction tends to that of the largest L2 margin.

    Args:
        momentum: In [0, 1).
        nesterov: Nesterov's form of it.
        batch_size: Rows per step; None for all.

    Raises:
        InvalidArgument: For values out of range.

    >>> from steepest.implicit_bias import predict
    >>> predict(GradientDescent(momentum=0.9), [[1, 0.1, 0.01]], [1]).point.mul(1.0101)
    tensor([1.0000, 0.1000, 0.0100], dtype=torch.float64)
    """

    @property
    def name(self) -> str:
        """Gradient descent, or with which momentum."""
        if not self.momentum:
            return "gradient descent"
        kind = "Nesterov's" if self.nesterov else "heavy-ball"
        return f"gradient descent with {kind} momentum"

    def root(self, problem: Problem) -> Root:  # noqa: ARG002
        """Return None, the identity."""
        return None


@dataclass(frozen=True, eq=False)
class Preconditioned(_LinearDescent):
    """Gradient descent with a fixed preconditioner: theta <- theta - eta D v.

    On A theta = b it ends at theta0 + D A' (A D A')^+ (b - A theta0), on separable data at the largest margin in the
    norm sqrt(theta' D^-1 theta).

    Args:
        diagonal: D's n diagonal entries, >= 0 (a coordinate with 0 never moves), or D itself, n x n, symmetric and
            positive definite.
        momentum: As for `GradientDescent`.
        nesterov: As for `GradientDescent`.
        batch_size: As for `GradientDescent`.

    Raises:
        InvalidArgument: For values out of range, or a matrix that is not symmetric and positive definite.

    >>> from steepest.implicit_bias import predict
    >>> predict(Preconditioned([1, 10, 100]), [[1, 0.1, 0.01]], [1]).point.mul(1.11).round(decimals=9)
    tensor([1., 1., 1.], dtype=torch.float64)
    """

    diagonal: ArrayLike

    def __post_init__(self) -> None:
        super().__post_init__()
        given = numbers_of("diagonal", self.diagonal).clone()
        if given.ndim not in (1, 2) or not given.numel():
            raise InvalidArgument(
                "a preconditioner must be a vector or a square matrix",
                got=f"shape {tuple(given.shape)}",
                remedy="Pass the diagonal, flattened.",
            )
        if given.ndim == 1 and not bool((given >= 0).all()):
            raise InvalidArgument("a preconditioner must be >= 0", got=float(given.min()), remedy="Pass D >= 0.")
        if given.ndim == 2 and not _positive_definite(given):
            raise InvalidArgument(
                "a preconditioner must be symmetric and positive definite",
                got=f"a matrix of shape {tuple(given.shape)}",
                remedy="Symmetrise it, or add a small multiple of the identity.",
            )
        object.__setattr__(self, "diagonal", given)

    @property
    def name(self) -> str:
        """Preconditioned gradient descent."""
        return "preconditioned gradient descent"

    def metric(self) -> Tensor | None:
        """Return the diagonal, or D."""
        return cast("Tensor", self.diagonal)

    def root(self, problem: Problem) -> Root:
        """Return the square roots of the diagonal, or the Cholesky factor."""
        if isinstance(self.diagonal, Tensor) and self.diagonal.ndim == 2:
            if len(self.diagonal) != problem.columns:
                raise InvalidArgument(
                    f"D must be {problem.columns} x {problem.columns}, as A has {problem.columns} columns",
                    got=f"shape {tuple(self.diagonal.shape)}",
                    remedy="Use the parameters that A multiplies.",
                )
            return torch.linalg.cholesky(self.diagonal)
        return vector("diagonal", self.diagonal, problem.columns, "one number for each column of A").sqrt()


@dataclass(frozen=True)
class RescaledFeatures(_LinearDescent):
    """Rescale every feature to unit second moment, descend, and convert the weights back.

    With s_j^2 = mean_i A_ij^2 gradient descent in phi = s theta is preconditioned by D = diag(1 / s^2) in theta. A
    column of zeros stays as it is.

    Args:
        momentum: As for `GradientDescent`.
        nesterov: As for `GradientDescent`.
        batch_size: As for `GradientDescent`.

    Raises:
        InvalidArgument: For values out of range.

    >>> from steepest.implicit_bias import predict
    >>> predict(RescaledFeatures(), [[1, 0.1, 0.01]], [1]).point.mul(3).round(decimals=9)
    tensor([  1.,  10., 100.], dtype=torch.float64)
    """

    @property
    def name(self) -> str:
        """Gradient descent in rescaled features."""
        return "gradient descent in rescaled features, D = diag(1 / mean_i A_ij^2),"

    def root(self, problem: Problem) -> Root:
        """Return 1 / s."""
        largest = problem.A.abs().amax(dim=0)
        largest = torch.where(largest > 0, largest, 1)
        s = (problem.A / largest).square().mean(dim=0).sqrt()
        return 1 / torch.where(s > 0, s * largest, 1)


def _positive_definite(D: Tensor) -> bool:
    if D.shape[0] != D.shape[1] or not bool((D.diagonal() > 0).all()):
        return False
    # In units in which the diagonal is 1: coordinates may move at very different rates.
    units = D.diagonal().sqrt()
    scaled = D / units / units[:, None]
    if not torch.allclose(scaled, scaled.mT, rtol=0, atol=1e-9):
        return False
    return bool(torch.linalg.eigvalsh(scaled)[0] > 1e-12)
