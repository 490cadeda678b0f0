"""The potentials of mirror descent: convex functions that are sums over the coordinates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._check import floating, in_range
from steepest._shapes import Float

__all__ = ["Entropy", "Hypentropy", "PNorm", "Potential"]


class Potential(ABC):
    """A strictly convex psi(x) = sum_j psi(x_j), whose gradient maps its domain onto the line.

    A subclass must implement psi, its gradient, the gradient's inverse and its slope, each entrywise. Subclasses are
    frozen dataclasses.
    """

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return psi(x_j), entrywise."""

    @abstractmethod
    def gradient(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return psi'(x_j)."""

    @abstractmethod
    def inverse_gradient(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the x_j with psi'(x_j) = z_j."""

    @abstractmethod
    def curvature(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return psi''(x_j)."""

    def start(self, n: int) -> Tensor:
        """Return where psi is smallest, the usual start: zeros."""
        return torch.zeros(n, dtype=torch.float64)

    def contains(self, x: Tensor) -> bool:
        """Return whether psi is differentiable at x."""
        floating("x", x)
        return bool(x.isfinite().all())


@dataclass(frozen=True)
class Entropy(Potential):
    """psi(x) = x log x - x on x > 0: multiplicative updates (exponentiated gradient), without a simplex.

    Its minimum is at ones, where a run starts by default.

    >>> Entropy().gradient(torch.tensor([1.0, 2.0]))
    tensor([0.0000, 0.6931])

    Source: Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear Predictors" (1997,
    doi:10.1006/inco.1996.2612).
    """

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return x log x - x."""
        floating("x", x)
        return torch.special.xlogy(x, x) - x

    def gradient(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return log x."""
        floating("x", x)
        return x.log()

    def inverse_gradient(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return exp(z)."""
        floating("z", z)
        return z.exp()

    def curvature(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return 1 / x."""
        floating("x", x)
        return 1 / x

    def start(self, n: int) -> Tensor:
        """Return ones."""
        return torch.ones(n, dtype=torch.float64)

    def contains(self, x: Tensor) -> bool:
        """Return whether all of x is above 0."""
        floating("x", x)
        return bool((x.isfinite() & (x > 0)).all())


@dataclass(frozen=True)
class PNorm(Potential):
    """psi(x) = |x|^p / p, p > 1; p = 2 is gradient descent.

    >>> PNorm(3).gradient(torch.tensor([-2.0, 1.0]))
    tensor([-4.,  1.])

    Args:
        p: Above 1, finite.

    Source: Grove, Littlestone and Schuurmans, "General Convergence Results for Linear Discriminant Updates" (2001).
    """

    p: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", in_range("p", self.p, "(1, inf)", remedy="Near 1 try Hypentropy(beta)."))

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return |x|^p / p."""
        floating("x", x)
        return x.abs().pow(self.p) / self.p

    def gradient(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sign(x) |x|^(p-1)."""
        floating("x", x)
        return x.sign() * x.abs().pow(self.p - 1)

    def inverse_gradient(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sign(z) |z|^(1/(p-1))."""
        floating("z", z)
        return z.sign() * z.abs().pow(1 / (self.p - 1))

    def curvature(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return (p-1) |x|^(p-2): 0 at 0 for p > 2, infinite for p < 2."""
        floating("x", x)
        return (self.p - 1) * x.abs().pow(self.p - 2)


@dataclass(frozen=True)
class Hypentropy(Potential):
    """psi(x) = x asinh(x/beta) - sqrt(x^2 + beta^2): from an entropy on both signs (beta small) to a square (large).

    >>> Hypentropy(1.0).inverse_gradient(Hypentropy(1.0).gradient(torch.tensor([0.0, 3.0]))).round(decimals=4)
    tensor([0., 3.])

    Args:
        beta: Above 0.

    Source: Ghai, Hazan and Singer, "Exponentiated Gradient Meets Gradient Descent" (2020), arXiv:1902.01903.
    """

    beta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", in_range("beta", self.beta, "(0, inf)", remedy="Try 1."))

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return x asinh(x/beta) - sqrt(x^2 + beta^2)."""
        floating("x", x)
        return x * torch.asinh(x / self.beta) - torch.hypot(x, torch.full_like(x, self.beta))

    def gradient(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return asinh(x/beta)."""
        floating("x", x)
        return torch.asinh(x / self.beta)

    def inverse_gradient(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return beta sinh(z)."""
        floating("z", z)
        return self.beta * torch.sinh(z)

    def curvature(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return 1 / sqrt(x^2 + beta^2)."""
        floating("x", x)
        return 1 / torch.hypot(x, torch.full_like(x, self.beta))
