"""Whether labelled examples can be separated, and the finite minimiser where they cannot."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steepest._importing import require
from steepest.implicit_bias._numerics.decomposition import lengths
from steepest.implicit_bias._numerics.newton import minimum
from steepest.implicit_bias._problem import Loss

__all__ = ["Separation", "finite_minimiser", "linear_program", "separation"]

_CLEAR = 1e-6
_ZERO = 1e-9


class Separation(Enum):
    """What a homogeneous halfspace can do with the examples."""

    STRICT = "all examples are strictly on their label's side of some halfspace"
    NONE = "no halfspace, not even with examples on its border, separates any example from the others"
    PARTIAL = "a halfspace separates some of the examples and leaves the others on its border"
    UNCLEAR = "the largest margin is within rounding of 0, or entries are of very different size"


def separation(Z: Tensor) -> Separation:
    """Return what holds for the examples z_i = b_i a_i, the rows of Z, none of which is all zeros.

    Two linear programs in the rows scaled to length 1: max g with Z w >= g, |w_j| <= 1; where that is 0,
    max sum s with Z w >= s, 0 <= s <= 1, which is 0 only if no w has Z w >= 0 with one inequality strict.
    """
    scaled = Z / lengths(Z)[:, None]
    # The solver drops what is below 1e-9.
    if bool(((scaled != 0) & (scaled.abs() < 1e-8)).any()):
        return Separation.UNCLEAR
    rows = scaled.numpy()
    m, n = rows.shape
    margin = -linear_program(
        np.r_[np.zeros(n), -1.0], np.c_[-rows, np.ones(m)], np.zeros(m), [(-1, 1)] * n + [(None, None)]
    ).fun
    if margin > _CLEAR:
        return Separation.STRICT
    if margin > _ZERO:
        return Separation.UNCLEAR
    apart = -linear_program(
        np.r_[np.zeros(n), -np.ones(m)], np.c_[-rows, np.eye(m)], np.zeros(m), [(None, None)] * n + [(0, 1)] * m
    ).fun
    if apart > _CLEAR:
        return Separation.PARTIAL
    return Separation.NONE if apart <= _ZERO * m else Separation.UNCLEAR


def linear_program(c: NDArray[Any], rows: NDArray[Any], bounds: NDArray[Any], ranges: list[Any]) -> Any:
    """Minimise <c, x> over rows x <= bounds and x in ranges, by the simplex method at its smallest tolerances.

    Returns:
        scipy's result; its status is 2 where nothing satisfies all constraints.

    Raises:
        ArithmeticError: If the solver gives up.
    """
    require("A linear program", "scipy", extra="implicit-bias")
    from scipy.optimize import linprog

    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(c, A_ub=rows, b_ub=bounds, bounds=ranges, method="highs-ds", options=options)
    if found.status != 0:
        found = linprog(c, A_ub=rows, b_ub=bounds, bounds=ranges, method="highs")
    if found.status not in (0, 2):
        raise ArithmeticError(found.message)
    return found


def finite_minimiser(Z: Tensor, offset: Tensor, loss: Loss) -> Tensor:
    """Return the x that minimises the loss of the margins offset + Z x; Z has full column rank, the caller checks it.

    Args:
        Z: m x r.
        offset: m.
        loss: "logistic" or "exponential".
    """

    def function(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        margins = offset + Z @ x
        if loss == "logistic":
            weights = torch.sigmoid(-margins)
            value, curvatures = torch.nn.functional.softplus(-margins).sum(), weights * (1 - weights)
        else:
            weights = curvatures = torch.exp(-margins)
            value = weights.sum()
        return value, -(Z.mT @ weights), (Z.mT * curvatures) @ Z

    # From where the margins are nearest to 0, so that nothing overflows.
    return minimum(function, torch.linalg.lstsq(Z, -offset[:, None]).solution[:, 0])
