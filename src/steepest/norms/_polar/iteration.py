"""The iteration behind the polar factor: odd polynomials of the singular values, made of matrix products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.norms._polar.products import symmetric_product
from steepest.norms._scale import largest_entry

__all__ = ["DEEP_STEPS", "LIFTS", "STEPS", "Steps", "iterate"]


@dataclass(frozen=True)
class Steps:
    """Polynomials x <- p x + q x^3 + r x^5, one after the other.

    Attributes:
        polynomials: Their coefficients (p, q, r).
        least: From this singular value on all come out near 1, relative to the bound on the largest.
    """

    polynomials: tuple[tuple[float, float, float], ...]
    least: float


# Each polynomial is the minimax one of the interval that the one before leaves, widened at the top by the factor 1.05:
# rounding in bfloat16 moves singular values by that much, and above its interval a polynomial of degree 5 grows fast.
# The interval's lower end is at least 0.05 of its upper one, so that large singular values are never pressed down to
# where they drown in rounding. The first interval is [least, 1.02]; they end within 0.0024 of 1.
# After Amsel, Persson, Musco and Gower, "The Polar Express" (2025, arXiv:2505.16932); tests/norms/test_polar_steps.py
# computes them anew.
STEPS = Steps(
    (
        (7.798442557121178, -20.37088821958967, 14.151453793705366),
        (3.6591544572343526, -2.345550626117109, 0.3998507216325788),
        (3.161232535727161, -2.16492198517134, 0.4057879299034838),
        (2.2366938071973315, -1.506764455085927, 0.3479097640110829),
        (1.8489098269633133, -1.1761299111001187, 0.3286686462221124),
    ),
    least=5e-3,
)

DEEP_STEPS = Steps(
    (
        (7.937711482076187, -20.73468287242458, 14.404178327093144),
        (3.841301259408401, -2.3766628319619905, 0.3910621503032844),
        (3.780630756992085, -2.3657806082899353, 0.3937074890543997),
        (3.569505609446505, -2.332209085900997, 0.4052433538090227),
        (2.8873652264495346, -1.9809843919840562, 0.38880973452844225),
        (2.04577015305552, -1.3506672121712457, 0.336446848360174),
        (1.8337675275768557, -1.163258124799277, 0.32979321638649656),
    ),
    least=5e-4,
)

# In bfloat16 that many steps lift what is small before the Gram matrix, whose rounding hides what is below 0.06 of
# the largest singular value, replaces the matrix. With two, matrices of rank 8 already come out 20% wrong.
LIFTS = 3


def iterate(
    x: Float[Tensor, "stack rows columns"], steps: Steps, dtype: torch.dtype, lifts: int
) -> tuple[Float[Tensor, "stack rows columns"], Float[Tensor, "stack 1 1"]]:
    """Take the first `lifts` steps on the matrices and the others on their Gram matrices.

    Both are the same polynomials. A step on matrices costs two products with the matrix and one with the Gram matrix,
    and rounds singular values relative to themselves; a step on Gram matrices costs four of the smaller products, and
    rounds the squares of singular values relative to the largest one.

    Args:
        x: The matrices.
        steps: The polynomials.
        dtype: In what they are computed.
        lifts: From 0 to all.

    Returns:
        The results in `dtype`, and bounds (sum s_i^8)^(1/8) on the largest singular values of the x.
    """
    tall = x.shape[-2] > x.shape[-1]
    x = x.to(dtype)
    # Without a scale of order 1 the squares below would leave the range of the dtype.
    scale = largest_entry(x, (-2, -1))
    x = x / scale

    def gram_of(x: Tensor) -> Tensor:
        return symmetric_product(x.mT, x) if tall else symmetric_product(x, x.mT)

    gram = gram_of(x)
    square = symmetric_product(gram, gram)
    squared_bound = torch.linalg.vector_norm(square, dim=(-2, -1), keepdim=True).sqrt()
    squared_bound = torch.where(squared_bound > 0, squared_bound, 1)
    gram, square, bound = gram.div_(squared_bound), square.div_(squared_bound.square()), squared_bound.sqrt()
    factor: Tensor | None = None
    last = len(steps.polynomials) - 1
    for step, (p, q, r) in enumerate(steps.polynomials):
        # The step is x <- (p + h) x with h = q gram + r gram^2.
        h = symmetric_product(gram, gram, gram, beta=q, alpha=r) if step else square.mul_(r).add_(gram, alpha=q)
        if step < lifts:
            x = torch.baddbmm(x, x, h, beta=p) if tall else torch.baddbmm(x, h, x, beta=p)
            if step == 0:
                x.div_(bound)
            if step < last:
                gram = gram_of(x)
        else:
            h.diagonal(dim1=-2, dim2=-1).add_(p)
            factor = h if factor is None else symmetric_product(factor, h)
            if step < last:
                gram = symmetric_product(symmetric_product(gram, h), h)
    if factor is not None:
        factor = factor if lifts else factor / bound
        x = torch.bmm(x, factor) if tall else torch.bmm(factor, x)
    return x, bound * scale
