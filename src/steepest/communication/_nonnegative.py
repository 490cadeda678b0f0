"""Least squares with coefficients that are not negative."""

from __future__ import annotations

import numpy as np

from steepest.communication._pattern import Array

__all__ = ["nonnegative_least_squares", "robust_nonnegative"]


def nonnegative_least_squares(matrix: Array, target: Array) -> Array:
    """Return x >= 0 that minimises |matrix x - target|, by Lawson and Hanson's active sets.

    Source: C. Lawson, R. Hanson, "Solving least squares problems", 1974, chapter 23.

    >>> nonnegative_least_squares(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -1.0]))
    array([2., 0.])
    """
    rows, columns = matrix.shape
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    a = matrix / scale
    x, free = np.zeros(columns), np.zeros(columns, dtype=bool)
    tolerance = 10 * max(rows, columns) * np.finfo(float).eps * max(float(np.abs(a.T @ target).max(initial=0)), 1e-300)
    for _ in range(3 * columns):
        gain = a.T @ (target - a @ x)
        gain[free] = -np.inf
        best = int(np.argmax(gain)) if columns else -1
        if best < 0 or gain[best] <= tolerance:
            break
        free[best] = True
        while True:
            trial = np.zeros(columns)
            trial[free] = np.linalg.lstsq(a[:, free], target, rcond=None)[0]
            bad = free & (trial <= 0)
            if not bad.any():
                x = trial
                break
            # As far towards the new point as all stay positive; what has become 0 is fixed there.
            with np.errstate(divide="ignore", invalid="ignore"):
                steps = np.where(bad, x / (x - trial), np.inf)
            x = x + float(np.nanmin(steps)) * (trial - x)
            free &= x > 1e-14 * max(float(x.max(initial=0)), 1e-300)
            x[~free] = 0.0
            if not free.any():
                break
    return x / scale


def robust_nonnegative(matrix: Array, target: Array, rounds: int = 12) -> Array:
    """Return x >= 0 with small relative errors of matrix x, measured so that a few outliers count little.

    It minimises the sum of |log((matrix x)_i / target_i)| approximately: least squares, weighted again in every round
    by 1 / sqrt(deviation), with deviations below 3% counted alike.
    """
    relative = matrix / target[:, None]
    weights = np.ones(len(target))
    x = np.zeros(matrix.shape[1])
    for _ in range(rounds):
        x = nonnegative_least_squares(relative * weights[:, None], weights)
        predicted = np.maximum(relative @ x, 1e-6)
        # (r - 1)^2 is a poor measure of a factor: dividing by r makes 1/2 and 2 equally bad to first order.
        deviation = np.maximum(np.abs(np.log(predicted)), 0.03)
        weights = 1 / np.sqrt(deviation * np.maximum(predicted, 0.25))
    return x
