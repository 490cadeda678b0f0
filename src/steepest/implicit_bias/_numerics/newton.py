"""The minimum of a smooth convex function, to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["minimum"]

Point = tuple[Tensor, Tensor, Tensor]
"""Value, gradient and Hessian."""
Convex = Callable[[Tensor], Point]


def minimum(function: Convex, x: Tensor, iterations: int = 200) -> Tensor:
    """Return the end of Newton's method with Levenberg's damping and halved steps, taken until nothing improves.

    The caller checks the point, by the equations that it has to solve.

    Args:
        function: Convex and twice differentiable where it is finite.
        x: A start at which it is finite.
        iterations: The maximum number of iterations.
    """
    here = function(x)
    best, stalled = x, 0
    least = length = float(torch.linalg.vector_norm(here[1]))
    for _ in range(iterations):
        step = _direction(here[2], here[1])
        gain = -float(here[1] @ step)
        found = _search(function, x, here, step, gain, length)
        if found is None:
            return best
        # What Newton's step can still gain; below this it is rounding.
        done = gain <= 1e-29 * abs(float(here[0]))
        x, here, length = found
        stalled = 0 if length < 0.9 * least else stalled + 1
        if length < least:
            best, least = x, length
        if done or least == 0 or stalled > 30:
            return best
    return best


def _search(
    function: Convex, x: Tensor, here: Point, step: Tensor, gain: float, length: float
) -> tuple[Tensor, Point, float] | None:
    """Halve Newton's step until the value falls; near the minimum, where rounding hides that, until the slope does."""
    value, size = float(here[0]), 1.0
    while size > 1e-18:
        candidate = x + size * step
        there = function(candidate)
        new_value, new_length = float(there[0]), float(torch.linalg.vector_norm(there[1]))
        lower = new_value <= value - 1e-4 * size * gain
        level = new_value <= value + 1e-12 * abs(value) and new_length < 0.9 * length
        # Compared with <, so that NaN is no progress.
        if (lower or level) and new_length < math.inf and bool(there[2].isfinite().all()):
            return candidate, there, new_length
        size /= 2
    return None


def _direction(hessian: Tensor, gradient: Tensor) -> Tensor:
    """Return -(H + damping)^-1 g, the damping as small as a factorisation allows."""
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if not int(failed):
        return -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
    scale = hessian.diagonal().clamp_min(0).max().clamp_min(torch.finfo(hessian.dtype).tiny)
    identity = torch.eye(len(gradient), dtype=hessian.dtype)
    for damping in (1e-15, 1e-12, 1e-9, 1e-6, 1e-3):
        factor, failed = torch.linalg.cholesky_ex(hessian + damping * scale * identity)
        if not int(failed):
            return -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
    return -gradient / scale
