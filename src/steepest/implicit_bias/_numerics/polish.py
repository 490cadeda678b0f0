"""Newton's method in many digits, where float64 cannot distinguish small coordinates from 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steepest._importing import require

__all__ = ["polish"]

_DIGITS = 60
_ITERATIONS = 40


def polish(p: float, start: Tensor, basis: Tensor, goal: Tensor, theta: Tensor) -> Tensor | None:
    """Return the theta with basis' theta = goal whose sign(theta) |theta|^(p-1) - start is in the span of basis.

    For large p a coordinate of .05 has |theta|^(p-1) below the rounding of one of 1, so that float64 says nothing of
    it; its multipliers in 60 digits do.

    Args:
        p: Above 2.
        start: n, the mirrored start.
        basis: n x r, orthonormal.
        goal: r.
        theta: n, near the answer.

    Returns:
        theta, or None if Newton's method does not converge from there.
    """
    require("A limit to 60 digits", "mpmath", extra="implicit-bias")
    from mpmath import mp, mpf

    with mp.workdps(_DIGITS):
        # The basis is orthonormal to 1e-16 only; its columns as they are span what is meant.
        rows = [[mpf(value) for value in row] for row in basis.tolist()]
        columns = [[row[k] for row in rows] for k in range(len(goal))]
        due, origin = [mpf(value) for value in goal.tolist()], [mpf(value) for value in start.tolist()]
        mirrored = theta.sign() * theta.abs().pow(p - 1) - start
        multipliers = [mpf(value) for value in (basis.mT @ mirrored).tolist()]
        power = 1 / (mpf(p) - 1)
        tolerance = mpf(10) ** -30 * (1 + max(abs(value) for value in due))

        def at(l: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:  # noqa: E741
            z = [o + mp.fdot(row, l) for o, row in zip(origin, rows, strict=True)]
            x = [mp.sign(value) * abs(value) ** power for value in z]
            return z, x, [mp.fdot(column, x) - value for column, value in zip(columns, due, strict=True)]

        z, x, missing = at(multipliers)
        for _ in range(_ITERATIONS):
            wrong = max(abs(value) for value in missing)
            if wrong < tolerance:
                return torch.tensor([float(value) for value in x], dtype=torch.float64)
            slopes = [power * abs(value) ** (power - 1) if value else 1 / tolerance for value in z]
            weighted = [[slope * entry for slope, entry in zip(slopes, column, strict=True)] for column in columns]
            hessian = mp.matrix([[mp.fdot(column, side) for side in columns] for column in weighted])
            step = mp.lu_solve(hessian, mp.matrix(missing))
            for halvings in range(30):
                shorter = mpf(2) ** -halvings
                candidate = [value - shorter * change for value, change in zip(multipliers, step, strict=True)]
                z, x, missing = at(candidate)
                if max(abs(value) for value in missing) < wrong:
                    break
            else:
                return None
            multipliers = candidate
    return None
