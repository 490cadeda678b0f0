"""The penalized and the constrained step in a norm, and the certificate of a step."""

from __future__ import annotations

from torch import Tensor

from steepest._check import in_range, instance
from steepest._shapes import Float
from steepest.norms._norm import Distance, Norm, T
from steepest.norms._points import check_shapes, double, inner, times

__all__ = ["constrained_step", "duality_gap", "objective", "penalized_step"]


def penalized_step(norm: Distance[T], g: T, alpha: float) -> T:
    """Return the minimiser of <g, u> + d(u) / alpha, where a norm stands for d(u) = ||u||^2.

    For a norm it is u = -(alpha/2) ||g||_* d(g) and the minimum -(alpha/4) ||g||_*^2. In the L2 norm this is
    gradient descent with learning rate alpha/2.

    Args:
        norm: The norm of the penalty, or another distance: `Power`, `KullbackLeibler`.
        g: The gradient, of any shape that the norm takes; tensors by name for `Blockwise`.
        alpha: The inverse of the penalty's weight, >= 0.

    Raises:
        InvalidArgument: If alpha is negative or not finite.

    >>> import torch
    >>> from steepest.norms import LInf
    >>> penalized_step(LInf(), torch.tensor([3.0, -4.0]), alpha=0.2)
    tensor([-0.7000,  0.7000])
    """
    alpha = in_range("alpha", alpha, "[0, inf)")
    _check_distance(norm)
    return norm.penalized_step(g, alpha)


def constrained_step(norm: Norm[T], g: T, radius: float) -> T:
    """Return the minimiser of <g, u> over ||u|| <= radius, which is u = -radius d(g).

    The minimum is -radius ||g||_*: minus the linear minimisation oracle of the ball.

    Args:
        norm: The norm of the ball.
        g: The gradient, of any shape that the norm takes; tensors by name for `Blockwise`.
        radius: The radius of the ball, >= 0.

    Raises:
        InvalidArgument: If the radius is negative or not finite, or `norm` is a distance that is not a norm.

    >>> import torch
    >>> from steepest.norms import LInf
    >>> constrained_step(LInf(), torch.tensor([3.0, -4.0]), radius=0.1)
    tensor([-0.1000,  0.1000])
    """
    radius = in_range("radius", radius, "[0, inf)")
    instance("norm", norm, Norm, "a norm", remedy="Use penalized_step for other distances.")
    return times(norm.duality_map(g), -radius)


def objective(norm: Distance[T], g: T, step: T, alpha: float) -> Float[Tensor, ""]:
    """Return <g, u> + d(u) / alpha, what `penalized_step` minimises, in float64; nothing is approximated.

    Args:
        norm: The norm of the penalty, or another distance.
        g: The gradient.
        step: u, of g's shape.
        alpha: The inverse of the penalty's weight, > 0.

    Raises:
        InvalidArgument: If alpha is not finite and above 0, or the shapes differ.

    >>> import torch
    >>> from steepest.norms import L2
    >>> objective(L2(), torch.tensor([3.0, 4.0]), torch.tensor([-0.3, -0.4]), alpha=0.2)
    tensor(-1.2500, dtype=torch.float64)
    """
    g, step, alpha = _checked(norm, g, step, alpha)
    return inner(g, step) + norm.exactly().distance(step) / alpha


def duality_gap(norm: Distance[T], g: T, step: T, alpha: float) -> Float[Tensor, ""]:
    """Certify a step of any optimizer: return its suboptimality, relative to the size of the minimum, in float64.

    For a norm, with ||g||_* exact,

        gap = (<g, u> + ||u||^2/alpha + (alpha/4)||g||_*^2) / ((alpha/4)||g||_*^2)  >= 0,

    0 at the minimiser and only there, 1 for the zero step. At g = 0 it is 0 for the zero step and infinite otherwise.

    Args:
        norm: As for `objective`.
        g: As for `objective`.
        step: u, of g's shape.
        alpha: As for `objective`.

    Raises:
        InvalidArgument: As `objective`.

    >>> import torch
    >>> from steepest.norms import LInf
    >>> g = torch.tensor([3.0, -4.0])
    >>> duality_gap(LInf(), g, penalized_step(LInf(), g, alpha=0.2), alpha=0.2) < 1e-12
    tensor(True)
    """
    g, step, alpha = _checked(norm, g, step, alpha)
    return norm.exactly().duality_gap(g, step, alpha)


def _checked(norm: Distance[T], g: T, step: T, alpha: float) -> tuple[T, T, float]:
    """Return gradient and step in float64, and alpha, once all fit."""
    alpha = in_range("alpha", alpha, "(0, inf)")
    _check_distance(norm)
    check_shapes(g, step)
    return double(g), double(step), alpha


def _check_distance(norm: object) -> None:
    instance("norm", norm, Distance, "a norm or another distance", remedy="Try steepest.norms.L2().")
