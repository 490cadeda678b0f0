"""The polar factor of a matrix: U V' for g = U S V'."""

from __future__ import annotations

import torch
from torch import Tensor

from steepest._shapes import Float

__all__ = ["polar_factor"]

# Five steps x <- p x + q x^3 + s x^5 on the singular values, each minimax-optimal for the interval that
# the step before leaves, with the safety factor 1.01 of the paper that keeps rounding from leaving it.
# Amsel, Persson, Musco and Gower, "The Polar Express" (2025), computed for singular values in [1e-3, 1].
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def polar_factor(g: Float[Tensor, "*stack rows columns"], exact: bool = False) -> Float[Tensor, "*stack rows columns"]:
    """Return the polar factor U V' of g = U S V' (S > 0), the maximiser of <g, d> over ||d||_2 <= 1.

    The iterative form runs five Polar Express steps in float32 (float64 stays float64): its singular
    values lie near 1, not at it, except those below about 1e-3 of the largest, which it leaves smaller.
    A zero matrix gives zero.

    Args:
        g: One matrix or a stack of them, of any floating dtype.
        exact: Use a singular value decomposition; singular values below
            max(rows, columns) * eps * (largest) count as zero.

    Returns:
        A new tensor of g's shape and dtype.

    >>> polar_factor(torch.tensor([[3.0, 0.0], [0.0, -2.0]]), exact=True)
    tensor([[ 1.,  0.],
            [ 0., -1.]])
    """
    x = g if g.dtype == torch.float64 else g.float()
    # Without a scale of order 1 the squares below would leave the range of the dtype.
    largest = torch.linalg.vector_norm(x, ord=float("inf"), dim=(-2, -1), keepdim=True)
    x = x / torch.where(largest > 0, largest, 1)
    return (_by_svd(x) if exact else _by_polar_express(x)).to(g.dtype)


def _by_svd(x: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack rows columns"]:
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    threshold = s[..., :1] * (max(x.shape[-2:]) * torch.finfo(x.dtype).eps)
    return (u * (s > threshold).unsqueeze(-2)) @ vh


def _by_polar_express(x: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack rows columns"]:
    tall = x.shape[-2] > x.shape[-1]
    y = (x.mT if tall else x).reshape(-1, min(x.shape[-2:]), max(x.shape[-2:]))
    norm = torch.linalg.vector_norm(y, dim=(-2, -1), keepdim=True)
    y = y / torch.where(norm > 0, 1.01 * norm, 1)
    for p, q, s in _POLAR_EXPRESS:
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=q, alpha=s), y, beta=p)
    return (y.mT if tall else y).reshape(x.shape)
