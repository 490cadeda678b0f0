"""The derivative of an objective by autograd, and whether it has jumps, which that does not see."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._space import Space

__all__ = ["jumps", "slopes"]


def slopes(objective: Objective, space: Space, rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return values [n] and gradients [n, d] of f at rows by backpropagation; None where there is no graph."""
    with torch.enable_grad():
        given = rows.detach().requires_grad_()
        try:
            values = evaluate(objective, space, given, differentiable=True)
            if not values.requires_grad:
                return None
            found: Any = torch.autograd.grad(values.sum(), given, allow_unused=True)[0]
        except (RuntimeError, NotImplementedError):  # an operation whose derivative is not implemented
            return None
    return values.detach(), torch.zeros_like(rows) if found is None else found


def jumps(objective: Objective, space: Space, rows: Tensor, sigma: float) -> bool:
    """Return whether f has jumps: differences over 4 times the distance have a mean square that is not 16 times."""
    direction = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    squares: list[float] = []
    for step in (1e-2 * sigma, 2.5e-3 * sigma):
        values = evaluate(objective, space, torch.cat([rows + step * direction, rows - step * direction])).double()
        squares.append(float((values[: len(rows)] - values[len(rows) :]).square().mean()))
    return not (squares[1] > 0 and squares[0] / squares[1] > 12) or not math.isfinite(squares[0])
