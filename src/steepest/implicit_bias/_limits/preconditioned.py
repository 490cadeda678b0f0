"""The limit of gradient descent with a fixed preconditioner on a squared loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steepest.implicit_bias._limits.affine import Affine, Root, moved_by, times, well_known
from steepest.implicit_bias._limits.limit import ROUNDING, Unknown, norm_of
from steepest.implicit_bias._numerics.decomposition import Factors, decomposed, lengths, obviously_full, rank_of, solves
from steepest.implicit_bias._numerics.rational import Metric, affordable, solved
from steepest.implicit_bias._problem import Problem

__all__ = ["preconditioned"]

_PLAIN = 1e3
_UNCLEAR = (
    "The rank of A is ambiguous: it has singular values between rounding and 1e-10 of the largest one in any units, "
    "and the limit jumps with the rank."
)
_NOT_FOUND = (
    "The rank of A, or its preconditioner, is so near to a lower one that float64 does not find the limit to 1e-7, and "
    "the equations are too many, or too inexact, for exact arithmetic."
)


def preconditioned(
    problem: Problem, b: Tensor, root: Root, metric: Metric = None, unsure: float = 0.0
) -> Affine | Unknown:
    """Return theta0 + D A' (A D A')^+ (b - A theta0), D = W W', or say that the rank of A W is unclear.

    In float64 where that is known to be right to 1e-9 of the way, else in fractions, or where these take too long in
    float64 where it is right to 1e-7.

    Args:
        problem: With A and theta0.
        b: m targets, the problem's own or others.
        root: W.
        metric: D where that is known better than by W: always for a matrix.
        unsure: What rounding in the targets is relative to, beside themselves.
    """
    A, theta0 = problem.A, problem.theta0
    W, D = _in_their_units(root, metric)
    C = moved_by(W, A)
    largest = float(C.abs().max())
    if not largest < math.inf or _lost(W, D):
        return Unknown("A times the square root of the preconditioner is out of the range of float64.", (A, b))
    if largest == 0:
        nothing, still = A.new_zeros(A.shape[1], 0), torch.ones_like(theta0, dtype=torch.bool)
        exact = solves(A, theta0, b, problem.slack)
        rounding = torch.zeros_like(theta0)
        return Affine("", A, A @ theta0, theta0, theta0, rounding, nothing, still, W, exact)
    size = lengths(C)
    found = decomposed(C / size[:, None], problem.precision)
    rank: int | None = found.rank
    if not obviously_full(found, C):
        # A preconditioner does not change it, so it is told without.
        rank = rank_of(A if W is None or W.ndim == 2 else A[:, W > 0], problem.precision)
        if rank is None:
            return Unknown(_UNCLEAR, (A, b))
    near = _in_float64(problem, b, W, D, C, size, found, unsure) if rank == found.rank and found.clear else None
    share = math.inf if near is None else _share(near)
    # That equations contradict each other is seen where W does not hide it.
    if near is not None and share <= 1e-9 and (near.exact or found.condition <= _PLAIN):
        return near
    exactly = _in_fractions(problem, b, W, D, C, rank, unsure)
    if exactly is not None or near is None or math.isnan(share):
        return exactly or Unknown(_NOT_FOUND, (A, b))
    # The bound is rarely reached.
    known = share <= 1e-7 or well_known(near.limit, theta0, near.rounding)
    return near if known else Unknown(_NOT_FOUND, (A, b))


def _share(near: Affine) -> float:
    """Return the largest error over the largest way of a coordinate."""
    way = float((near.limit - near.theta0).abs().max())
    return float(near.rounding.max()) / way if way else math.inf


def _in_their_units(root: Root, D: Metric) -> tuple[Root, Metric]:
    """Return W and D with a largest entry near 1: limits do not depend on D's units, and squares could overflow."""
    if root is None or not bool(root.any()):
        return root, root
    # A power of 2 leaves D's digits as they are.
    unit = 2.0 ** math.floor(math.log2(float(root.abs().max())))
    scaled = root / unit
    if D is not None:
        return scaled, D / unit / unit
    return scaled, scaled.square() if root.ndim == 1 else scaled @ scaled.mT


def _lost(root: Root, D: Metric) -> bool:
    """Return whether a square is beyond float64."""
    return root is not None and D is not None and D.ndim == 1 and bool(((D < 1e-300) & (root > 0)).any())


def _in_float64(
    problem: Problem, b: Tensor, root: Root, D: Metric, C: Tensor, size: Tensor, found: Factors, unsure: float
) -> Affine | None:
    """Return the limit as theta0 + D A' multipliers, with a bound on its error, which may be NaN."""
    A, theta0 = problem.A, problem.theta0
    sizes, full = A.abs(), found.rank == A.shape[0]
    if full or _agree(problem, b, root, D, size, found):
        theta, multipliers = _ascended(A, b, theta0, D, size, found)
        moves = sizes.mT @ multipliers.abs()
        sums = theta0.abs() + _multiplied(D, moves, absolute=True)
        # Rounding of D A' l lies in D's range: solving for what it does to the equations projects it, and no more.
        projected = root is None or root.ndim == 1
        lost = torch.linalg.vector_norm((sizes @ (theta.abs() if projected else sums) + b.abs() + unsure) / size)
        left = torch.linalg.vector_norm(found.left.mT @ ((b - A @ theta) / size))
        rounding, exact = ROUNDING * sums + _felt(root, found, ROUNDING * lost + left), True
        if projected:
            rounding = rounding + ROUNDING * times(root, torch.linalg.vector_norm(times(root, moves)).expand_as(moves))
        target = b if full else A @ theta
    else:
        # In least squares the rows count by their lengths.
        found = decomposed(C, problem.precision)
        if not found.clear:
            return None
        theta, multipliers = _ascended(A, b, theta0, D, torch.ones_like(b), found)
        sums = theta0.abs() + _multiplied(D, sizes.mT @ multipliers.abs(), absolute=True)
        basis = times(root, found.right) / found.singular_values
        back, curved = (basis @ found.left.mT).abs(), (basis / found.singular_values @ found.right.mT).abs()
        # The gradient that is left, and what rounding of A and of the residuals is worth in it (Wedin 1973).
        slope = (C.mT @ (b - A @ theta)).abs() + ROUNDING * (C.mT.abs() @ (sizes @ sums + b.abs() + unsure))
        rounding = ROUNDING * (sums + back @ (sizes @ sums)) + curved @ slope
        target, exact = A @ theta, False
    still = found.still if root is None or root.ndim == 1 else _still(root, C)
    return Affine("", A, target, theta0, theta, rounding, found.right, still, root, exact)


def _felt(root: Root, found: Factors, missed: Tensor) -> Tensor:
    """Return how far each coordinate moves at the most where the rows, divided by their lengths, miss by so much."""
    reach = missed / found.singular_values[-1]
    return reach if root is None else reach * (root if root.ndim == 1 else torch.linalg.vector_norm(root, dim=1))


def _agree(problem: Problem, b: Tensor, root: Root, D: Metric, size: Tensor, found: Factors) -> bool:
    """Return whether the equations have a solution, to their rounding."""
    A = problem.A
    # That does not depend on where theta starts, but on what cannot move.
    still = _unmoved(root, problem.theta0)
    nearest, multipliers = _ascended(A, b, still, D, size, found)
    left, way = (b - A @ nearest).abs(), norm_of(moved_by(root, multipliers @ A))
    # What is left must be rounding, and must not move theta, however the rows are weighted.
    if not norm_of(left / size) <= max(1e-9, 10 * problem.slack) * way * float(found.singular_values[-1]):
        return False
    # Rounding of one row is felt in another, whose own numbers may all be 0.
    sizes, sums = A.abs(), still.abs() + _multiplied(D, A.mT.abs() @ multipliers.abs(), absolute=True)
    rounding = ROUNDING * sums + _felt(
        root, found, ROUNDING * torch.linalg.vector_norm((sizes @ sums + b.abs()) / size)
    )
    return bool((left <= problem.slack * (sizes @ nearest.abs() + b.abs()) + sizes @ rounding).all())


def _ascended(A: Tensor, b: Tensor, start: Tensor, D: Metric, size: Tensor, found: Factors) -> tuple[Tensor, Tensor]:
    """Return start + D A' l and the l for which that solves A theta = b, refined so that every row does (Skeel 1980).

    Coordinates whose columns are 0 stay: their sums are sums of zeros.
    """
    multipliers, theta = torch.zeros_like(b), start
    weights = found.left / found.singular_values.square()
    for _ in range(2 if found.condition <= _PLAIN else 3):
        multipliers = multipliers + weights @ (found.left.mT @ ((b - A @ theta) / size)) / size
        theta = start + _multiplied(D, A.mT @ multipliers)
    return theta, multipliers


def _in_fractions(
    problem: Problem, b: Tensor, root: Root, D: Metric, C: Tensor, rank: int, unsure: float
) -> Affine | None:
    """Return the limit as it is exactly, rounded once, or None where that would take too long."""
    A, theta0 = problem.A, problem.theta0
    if not affordable(A.shape, rank):
        return None
    try:
        found = solved(A, b, theta0, D, _unmoved(root, theta0), rank, problem.slack, unsure)
    except OverflowError:  # the limit is beyond float64
        return None
    if found is None:
        return None
    rounding = ROUNDING * (found.theta.abs() + theta0.abs() + found.felt)
    span = torch.linalg.qr(C[found.chosen].mT).Q
    target = b if found.exact and rank == len(A) else found.image
    return Affine("", A, target, theta0, found.theta, rounding, span, _still(root, C), root, found.exact)


def _multiplied(D: Metric, x: Tensor, absolute: bool = False) -> Tensor:
    """Return D x, or |D| x."""
    if D is None:
        return x
    return D * x if D.ndim == 1 else (D.abs() if absolute else D) @ x


def _unmoved(root: Root, theta0: Tensor) -> Tensor:
    return torch.where(root == 0, theta0, 0) if root is not None and root.ndim == 1 else torch.zeros_like(theta0)


def _still(root: Root, C: Tensor) -> Tensor | None:
    """Return which coordinates no row moves, or None if all are moved."""
    still = ~(root @ C.mT).any(dim=1) if root is not None and root.ndim == 2 else ~C.any(dim=0)
    return still if bool(still.any()) else None
