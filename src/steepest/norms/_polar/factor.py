"""The polar factor of a matrix: U V' for g = U S V'."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from steepest._check import boolean
from steepest._shapes import Float
from steepest.norms._matrix import check_matrix, svd
from steepest.norms._polar.iteration import DEEP_STEPS, LIFTS, STEPS, iterate
from steepest.norms._polar.products import product_speed
from steepest.norms._scale import largest_entry

__all__ = ["polar_factor"]

# From this many columns a row on the Gram form needs less arithmetic.
_WIDE = 1.2

# Below this short side bfloat16 saves nothing.
_LARGE = 128

# The smallest accepted alignment, and the bound on how far the iteration's large singular values lie from 1.
_ALIGNED = 0.75
_TOLERANCE = {torch.float64: 0.005, torch.float32: 0.005, torch.bfloat16: 0.02}


def polar_factor(g: Float[Tensor, "*shape"], exact: bool = False) -> Float[Tensor, "*shape"]:
    """Return the polar factor U V' of g = U S V' (S > 0), the maximiser of <g, d> over ||d||_2 <= 1.

    The iterative form takes five polynomial steps on the singular values, relative to the bound
    (sum s_i^8)^(1/8) on the largest, which the Gram matrix yields at no further cost. From 0.005 of it on they end
    within 0.005 of 1 in float32 and 0.02 in bfloat16, up to rounding; smaller ones end below that. Where too much of
    the matrix may be smaller for an alignment <g, d> / (||g||_* ||d||_2) of 0.75 (1 is exact), seven steps from 0.0005
    on are taken, and at last the exact factor; on a GPU the five steps are final.

    float64 is computed in float64; all else in bfloat16 where this device was measured to be faster so
    (`product_speed`) and the matrix is not small, and in float32 otherwise. The iteration moves from the matrix to
    its Gram matrix when that is less work and rounding can no longer hide a singular value. A zero matrix gives zero.
    Not differentiable.

    Args:
        g: One matrix or a stack of them, of any floating dtype.
        exact: Use a singular value decomposition; singular values that are rounding count as zero, which is
            up to max(rows, columns) * eps * (largest) in float64, the root of that number times eps otherwise.

    Returns:
        A new tensor of g's shape and dtype.

    Raises:
        InvalidArgument: If g has fewer than two dimensions.

    >>> polar_factor(torch.tensor([[3.0, 0.0], [0.0, -2.0]]), exact=True)
    tensor([[ 1.,  0.],
            [ 0., -1.]])
    """
    check_matrix(g, "the polar factor")
    boolean("exact", exact)
    if not g.numel():
        return torch.zeros_like(g)
    if exact:
        u, s, vh = svd(g)
        return ((u * (s > 0).unsqueeze(-2)) @ vh).to(g.dtype)
    return _iterate(g)


@_disable_dynamo  # measures, and chooses by the result
@torch.no_grad()
def _iterate(g: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack rows columns"]:
    short, long = sorted(g.shape[-2:])
    speed = product_speed(g.device)
    if g.dtype == torch.float64:
        dtype, single = torch.float64, True
    elif short >= _LARGE and speed.prefers_bfloat16:
        dtype, single = torch.bfloat16, False
    else:
        dtype, single = torch.float32, speed.float32_is_single
    lifts = len(STEPS.polynomials) if long < _WIDE * short else 0 if single else LIFTS
    x = g.reshape(-1, *g.shape[-2:])
    # Large matrices one by one, which keeps memory flat; small ones together, where calls cost most.
    each = [x] if short < _LARGE or g.is_cuda else x.split(1)
    y = [_plausible(part, dtype, lifts) for part in each]
    return (y[0] if len(y) == 1 else torch.cat(y)).view(g.shape)


def _plausible(x: Float[Tensor, "stack rows columns"], dtype: torch.dtype, lifts: int) -> Tensor:
    """Return for each matrix the iteration's result if its alignment is surely good enough, else a deeper or exact one.

    On a GPU the first results are returned unseen: looking would make the host wait.
    """
    y, size = iterate(x, STEPS, dtype, lifts)
    y = y.to(x.dtype)
    if x.is_cuda:
        return y
    doubtful = _doubtful(x, y, size * STEPS.least, dtype)
    if len(doubtful):
        z, size = iterate(x[doubtful], DEEP_STEPS, dtype, len(DEEP_STEPS.polynomials))
        y[doubtful] = z.to(x.dtype)
        doubtful = doubtful[_doubtful(x[doubtful], y[doubtful], size * DEEP_STEPS.least, dtype)]
    if len(doubtful):
        y[doubtful] = polar_factor(x[doubtful], exact=True)
    return y


def _doubtful(x: Tensor, y: Tensor, least: Float[Tensor, "stack 1 1"], dtype: torch.dtype) -> Tensor:
    """Return the places of the matrices for which <x, y> / (||x||_* ||y||_2) >= 0.75 is not sure.

    Let the x have the singular values s_i, and the y, on the same vectors, p_i: within t of 1 where s_i >= `least`,
    and at most 1 + t elsewhere. Then <x, y> = sum s_i p_i, and there are two bounds on ||x||_* = sum s_i,

        sum s_i p_i / (1 - t) + least * sum ((1 + t)^2 - p_i^2)          sum p_i^2 being ||y||_F^2, and
        (1 + t) sum s_i p_i + sqrt(rank) ||x - y y' x||_F                 as s = p (p s) + (1 - p^2) s,

    the first for free, the second for two products; they fail where much of x lies below `least`.
    """
    t = _TOLERANCE[dtype]
    attained = _inner(x, y)
    missing = (min(x.shape[-2:]) * (1 + t) ** 2 - _inner(y, y)).clamp_min(0)
    sure = attained >= _ALIGNED * (1 + t) * (attained / (1 - t) + least.flatten() * missing)
    # A zero matrix has no error, and one with NaN cannot be fixed.
    doubtful = (~sure & (attained.abs() > 0)).nonzero().flatten()
    if len(doubtful):
        x, y, attained = x[doubtful], y[doubtful], attained[doubtful]
        scale = largest_entry(x, (-2, -1))
        a, b = (x / scale).to(dtype), y.to(dtype)
        rest = a - (b @ (b.mT @ a) if x.shape[-2] > x.shape[-1] else (b @ b.mT) @ a)
        rest = (min(x.shape[-2:]) * _inner(rest, rest)).sqrt() * scale.flatten()
        doubtful = doubtful[attained < _ALIGNED * (1 + t) * ((1 + t) * attained + rest)]
    return doubtful


def _inner(x: Tensor, y: Tensor) -> Float[Tensor, " stack"]:
    """Return <x, y> of each pair of matrices, without a temporary of their size where they are of one dtype."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.bmm(x.reshape(len(x), 1, -1).to(dtype), y.reshape(len(y), -1, 1).to(dtype)).flatten()
