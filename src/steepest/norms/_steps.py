"""A norm turned into a step, in the two ways there are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.norms._norm import Norm

__all__ = ["constrained_step", "constrained_steps", "penalized_step"]


def penalized_step(norm: Norm, g: Float[Tensor, "*shape"], alpha: float) -> Float[Tensor, "*shape"]:
    """Return the minimiser of <g, u> + (1/alpha) ||u||^2, which is u = -(alpha/2) ||g||_* d(g).

    The minimum is -(alpha/4) ||g||_*^2. In the L2 norm this is gradient descent with learning rate alpha/2.

    Args:
        norm: The norm of the penalty.
        g: The gradient, of any shape that the norm takes.
        alpha: The weight of the penalty's inverse, >= 0.

    Raises:
        InvalidArgument: If alpha is negative or not finite.

    >>> import torch
    >>> from steepest.norms import LInf
    >>> penalized_step(LInf(), torch.tensor([3.0, -4.0]), alpha=0.2)
    tensor([-0.7000,  0.7000])
    """
    _check("alpha", alpha)
    return norm.duality_map(g).mul_(norm.dual_norm(g) * (-alpha / 2))


def constrained_step(norm: Norm, g: Float[Tensor, "*shape"], radius: float) -> Float[Tensor, "*shape"]:
    """Return the minimiser of <g, u> over ||u|| <= radius, which is u = -radius d(g).

    The minimum is -radius ||g||_*: minus the linear minimisation oracle of the ball.

    Args:
        norm: The norm of the ball.
        g: The gradient, of any shape that the norm takes.
        radius: The radius of the ball, >= 0.

    Raises:
        InvalidArgument: If the radius is negative or not finite.

    >>> import torch
    >>> from steepest.norms import LInf
    >>> constrained_step(LInf(), torch.tensor([3.0, -4.0]), radius=0.1)
    tensor([-0.1000,  0.1000])
    """
    _check("radius", radius)
    return norm.duality_map(g).mul_(-radius)


def constrained_steps(norm: Norm, gs: Sequence[Tensor], radius: float) -> list[Tensor]:
    """Return `constrained_step` of each tensor by itself, at once where the norm is faster so (and memory allows)."""
    _check("radius", radius)
    return [direction.mul_(-radius) for direction in norm.duality_maps(gs)]


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InvalidArgument(f"{name} must be a finite number >= 0", got=value, remedy=f"Pass {name} >= 0.")
