"""The direction of largest margin in a norm: where separable losses send theta."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from steepest._importing import require
from steepest.implicit_bias._limits.affine import Root, moved_by, times
from steepest.implicit_bias._limits.bregman import project
from steepest.implicit_bias._limits.limit import Certificate, Limit, norm_of
from steepest.implicit_bias._limits.separation import linear_program
from steepest.implicit_bias._numerics.decomposition import factors
from steepest.implicit_bias._potentials import PNorm
from steepest.norms import L1, L2, Ellipsoid, LInf, Lp, Norm, Scaled

__all__ = ["LargestMargin", "is_quadratic", "largest_margin", "quadratic_margin", "root_of"]

_EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class LargestMargin(Limit):
    """The w of norm 1 with the largest min_i <z_i, w>, z_i = b_i a_i.

    By duality max over ||w|| <= 1 of min_i <z_i, w> = min over weights q >= 0, sum q = 1, of ||Z' q||_*. So any q
    bounds what any w can reach, and a w that reaches the bound is proved to be best.

    Attributes:
        reason: The theorem and its source.
        Z: m x n, the rows z_i.
        norm: Of theta.
        weights: q.
        best: w, in the norm.
        unique: Whether no other w is as good.
    """

    reason: str
    Z: Tensor
    norm: Norm
    weights: Tensor
    best: Tensor
    unique: bool

    @property
    def direction(self) -> Tensor:
        """W / ||w||_2."""
        return self.best / norm_of(self.best)

    @property
    def margin(self) -> float:
        """min_i <z_i, w>, w of norm 1."""
        return float((self.Z @ self.best).min() / self.norm(self.best))

    def because(self, reason: str) -> LargestMargin:
        """Return the same direction with another reason."""
        return replace(self, reason=reason)

    def certify(self, theta: Tensor, tolerance: float) -> Certificate:
        """Compare the duality gap of theta's margin and the distance from the predicted direction."""
        bound = float(self.norm.dual_norm(self.Z.mT @ self.weights))
        if not bool(theta.any()):
            return Certificate(False, torch.inf, torch.inf, torch.inf, tolerance)
        margin = float((self.Z @ theta).min() / self.norm(theta))
        gap = (bound - margin) / bound
        distance = norm_of(theta / norm_of(theta) - self.direction)
        return Certificate(gap <= tolerance and distance <= tolerance, gap, distance, distance, tolerance)


def is_quadratic(norm: Norm) -> bool:
    """Return whether ||x||^2 = c x' D^-1 x for some D."""
    if isinstance(norm, Scaled):
        return is_quadratic(norm.norm)
    return isinstance(norm, (L2, Ellipsoid)) or (isinstance(norm, Lp) and norm.p == 2)


def root_of(norm: Norm, shape: tuple[int, ...]) -> Root:
    """Return the square root of a quadratic norm's D, up to a factor."""
    if isinstance(norm, Scaled):
        return root_of(norm.norm, shape)
    if isinstance(norm, Ellipsoid):
        return norm.diagonal.to("cpu", torch.float64).expand(shape).flatten().sqrt()
    return None


def largest_margin(norm: Norm, Z: Tensor) -> LargestMargin | None:
    """Return the direction of largest margin for strictly separable rows z_i, or None where it cannot be computed here.

    Args:
        norm: L1, LInf, Lp, L2, Ellipsoid, or one of them scaled.
        Z: m x n, separable.
    """
    if is_quadratic(norm):
        return quadratic_margin(Z, root_of(norm, Z.shape[1:]))
    inner = norm
    while isinstance(inner, Scaled):
        inner = inner.norm
    if isinstance(inner, (L1, LInf)):
        solved = _polyhedral(Z, isinstance(inner, L1))
        return None if solved is None else _checked(norm, Z, *solved)
    if isinstance(inner, Lp):
        found = _active_set(inner.p, Z)
        if found is None or not _parallel(PNorm(inner.p).gradient(found[0]), Z.mT @ found[1].clamp_min(0)):
            return None
        return _checked(norm, Z, *found, True)
    return None


def quadratic_margin(Z: Tensor, root: Root) -> LargestMargin | None:
    """Return the direction of largest margin in ||W^-1 w||_2, or None if it was not found to 1e-9."""
    # In units in which nothing over- or underflows; a direction does not depend on D's.
    root = None if root is None else root / root.abs().max()
    moving = moved_by(root, Z)
    found = _euclidean(moving)
    if found is None:
        return None
    best, weights = found
    if not _parallel(best, moving.mT @ weights.clamp_min(0)):
        return None
    return _checked(L2() if root is None else _Quadratic(root), Z, times(root, best), weights, True)


def _checked(norm: Norm, Z: Tensor, best: Tensor, weights: Tensor, unique: bool) -> LargestMargin | None:
    """Return the claim if its margin is proved to 1e-9."""
    weights = weights.clamp_min(0)
    limit = LargestMargin("", Z, norm, weights / weights.sum(), best / norm(best), unique)
    return limit if limit.certify(best, _EXACT).passed else None


def _parallel(x: Tensor, y: Tensor) -> bool:
    """Return whether two vectors have one direction to 1e-9: a small gap alone bounds a direction by its root only."""
    return norm_of(x / norm_of(x) - y / norm_of(y)) <= _EXACT


def _in_its_units(Z: Tensor) -> Tensor:
    """Return Z with a largest entry of 1: solvers have absolute tolerances, directions have no units."""
    return Z / Z.abs().max()


def _euclidean(Z: Tensor) -> tuple[Tensor, Tensor] | None:
    """Solve min ||w||_2, Z w >= 1, as a least-distance problem by non-negative least squares, then on its active set.

    Source: Lawson and Hanson, "Solving Least Squares Problems" (1974, doi:10.1137/1.9781611971217), chapter 23.
    """
    require("The largest margin", "scipy", extra="implicit-bias")
    from scipy.optimize import nnls

    rows = _in_its_units(Z)
    m, n = rows.shape
    goal = np.r_[np.zeros(n), 1.0]
    weights, _ = nnls(np.vstack([rows.numpy().T, np.ones(m)]), goal, maxiter=30 * (m + n))
    active = torch.from_numpy(weights > 0)
    if not bool(active.any()):
        return None
    chosen = factors(rows[active], torch.finfo(torch.float64).eps)
    best = chosen.solve(torch.ones(int(active.sum()), dtype=torch.float64))
    multipliers = torch.zeros(m, dtype=torch.float64)
    multipliers[active] = chosen.left @ ((chosen.right.mT @ best) / chosen.singular_values)
    if bool((multipliers < -1e-12 * multipliers.abs().max()).any()):
        # Rows that depend on each other: keep the weights of the solver, whose sum gives the same w.
        multipliers = torch.from_numpy(weights)
    return best, multipliers


def _polyhedral(Z: Tensor, absolute: bool) -> tuple[Tensor, Tensor, bool] | None:
    """Solve max g, Z w >= g, in the L1 (`absolute`) or the largest-entry norm, and see whether w is unique.

    A face of optimal w has, for almost every linear function, two ends with different values.
    """
    rows = _in_its_units(Z).numpy()
    m, n = rows.shape
    if absolute:
        parts, room = np.c_[-rows, rows], np.c_[np.ones((1, 2 * n)), 0.0]
        ranges: list[tuple[float | None, float | None]] = [(0, None)] * (2 * n) + [(None, None)]
        constraints, bounds = np.r_[np.c_[parts, np.ones(m)], room], np.r_[np.zeros(m), 1.0]
    else:
        ranges = [(-1, 1)] * n + [(None, None)]
        constraints, bounds = np.c_[-rows, np.ones(m)], np.zeros(m)

    def w(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x[:n] - x[n : 2 * n] if absolute else x[:n].copy())

    objective = np.zeros(len(ranges))
    objective[-1] = -1.0
    found = linear_program(objective, constraints, bounds, ranges)
    if found.status != 0:
        return None
    weights = torch.from_numpy(-found.ineqlin.marginals[:m].copy())
    best, margin = w(found.x), found.x[-1]
    generator = np.random.default_rng(0)
    ends: list[Tensor] = []
    slanted = generator.standard_normal(n)
    for sign in (1, -1):
        along = np.zeros(len(ranges))
        along[:n] = sign * slanted
        if absolute:
            along[n : 2 * n] = -sign * slanted
        face = [*ranges[:-1], (margin - 1e-12 * abs(margin), None)]
        end = linear_program(along, constraints, bounds, face)
        if end.status != 0:
            return None
        ends.append(w(end.x))
    return best, weights, norm_of(ends[0] - ends[1]) <= 1e-6 * norm_of(best)


def _active_set(p: float, Z: Tensor) -> tuple[Tensor, Tensor] | None:
    """Solve min sum |w|^p / p, Z w >= 1: the equations of the active rows, a row in or out until nothing is wrong."""
    rows = _in_its_units(Z)
    first = _euclidean(rows)
    if first is None:
        return None
    active = first[1] > 0
    potential, zero = PNorm(p), torch.zeros(rows.shape[1], dtype=torch.float64)
    for _ in range(20 * len(rows)):
        chosen = factors(rows[active], torch.finfo(torch.float64).eps)
        if chosen.rank < int(active.sum()):
            return None
        best = project(potential, zero, chosen, torch.ones(chosen.rank, dtype=torch.float64))
        if best is None:
            return None
        gradient = potential.gradient(best)
        multipliers = torch.zeros(len(rows), dtype=torch.float64)
        multipliers[active] = chosen.left @ ((chosen.right.mT @ gradient) / chosen.singular_values)
        margins = torch.where(active, torch.inf, rows @ best)
        if float(multipliers.min()) < -1e-10 * float(multipliers.max()) and int(active.sum()) > 1:
            active[int(multipliers.argmin())] = False
        elif float(margins.min()) < 1 - 1e-13:
            active[int(margins.argmin())] = True
        else:
            return best, multipliers
    return None


@dataclass(frozen=True, eq=False)
class _Quadratic(Norm):
    """||x|| = ||W^-1 x||_2 of a square root W; a coordinate with W = 0 does not count, as nothing can move it."""

    root: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return ||W^-1 x||_2."""
        if self.root.ndim == 1:
            return torch.linalg.vector_norm(x / torch.where(self.root > 0, self.root, torch.inf))
        return torch.linalg.vector_norm(torch.linalg.solve(self.root, x))

    def dual_norm(self, g: Tensor) -> Tensor:
        """Return ||W' g||_2."""
        return torch.linalg.vector_norm(moved_by(self.root, g))

    def duality_map(self, g: Tensor) -> Tensor:
        """Return D g / ||g||_*."""
        dual = self.dual_norm(g)
        return times(self.root, moved_by(self.root, g)) / torch.where(dual > 0, dual, 1)
