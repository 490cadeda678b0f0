"""A linearised model under gradient flow and gradient descent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Alignment", "Trajectory", "decay", "learned_at"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The linearised model under gradient flow or gradient descent on a squared loss.

    With residual r = f - y on the training points, J = U S V' and c = 2 / N for the mean (2 for the sum) of squares,
    gradient flow gives u_k' r(t) = exp(-c s_k^2 t) u_k' r(0), gradient descent (1 - c lr s_k^2)^t u_k' r(0); the part
    of r(0) outside the span of U is never learned.

    Attributes:
        times: Times of gradient flow, or steps of gradient descent.
        predictions: The linearised model's outputs, [times, n, C].
        residuals: u_k' r(t), [times, k].
        singular_values: s_k.
        learned_at: The time or step at which each direction's residual has shrunk by a factor e; infinite if never.
        unlearnable: The norm of the part of r that cannot be learned.
        largest_lr: Gradient descent converges below this learning rate, 2 / (c s_1^2).

    Source: Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent" (2019,
    arXiv:1902.06720).
    """

    times: Tensor
    predictions: Tensor
    residuals: Tensor
    singular_values: Tensor
    learned_at: Tensor
    unlearnable: float
    largest_lr: float


@dataclass(frozen=True, eq=False)
class Alignment:
    """The share of a target in each principal direction.

    Attributes:
        value: The kernel's alignment with the target, y' K y / (||K||_F ||y||^2), 0 to 1.
        shares: (u_k' y)^2 / ||y||^2 of each direction; their sum is what the features can represent of y.
        singular_values: s_k.

    Source: Cristianini et al., "On kernel-target alignment" (2001).
    """

    value: float
    shares: Tensor
    singular_values: Tensor


def decay(times: Tensor, rates: Tensor, lr: float | None) -> Tensor:
    """Return the remaining share of each direction's residual at each time, [times, k], for rates c s_k^2."""
    if lr is None:
        return torch.exp(-times[:, None] * rates)
    return torch.pow((1 - lr * rates)[None, :], times[:, None])


def learned_at(rates: Tensor, lr: float | None) -> Tensor:
    """Return when each direction's residual has shrunk by a factor e."""
    if lr is None:
        return 1 / rates
    shrink = (1 - lr * rates).abs()
    return torch.where(shrink < 1, -1 / torch.log(shrink), torch.full_like(shrink, math.inf))
