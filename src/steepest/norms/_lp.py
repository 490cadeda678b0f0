"""The p-norms between L1 and LInf."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._check import in_range
from steepest._shapes import Float
from steepest.norms._norm import Norm
from steepest.norms._points import check_tensor
from steepest.norms._scale import largest_entry

__all__ = ["Lp", "check_exponent"]


@dataclass(frozen=True)
class Lp(Norm):
    """||x|| = (sum |x_i|^p)^(1/p); the dual is the q-norm, 1/p + 1/q = 1.

    d(g)_i = sign(g_i) |g_i|^(q-1) / ||g||_q^(q-1).

    Args:
        p: Finite and above 1.

    Raises:
        InvalidArgument: If p is not finite and above 1.

    >>> Lp(3.0)(torch.tensor([3.0, 4.0, 5.0]))
    tensor(6.)
    """

    p: float

    def __post_init__(self) -> None:
        remedy = "Use L1() for p = 1 and LInf() for p = infinity."
        object.__setattr__(self, "p", check_exponent(self.p, remedy))

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return (sum |x_i|^p)^(1/p)."""
        return _norm(x, self.p)

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return (sum |g_i|^q)^(1/q)."""
        return _norm(g, self.p / (self.p - 1))

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return sign(g) |g|^(q-1) / ||g||_q^(q-1), and 0 at 0."""
        check_tensor(g)
        # |g|^(q-1) has the p-norm ||g||_q^(q-1): divided by that, rounding cannot leave the unit sphere.
        direction = (g / largest_entry(g)).abs().pow(1 / (self.p - 1)).mul(g.sign())
        norm = _norm(direction, self.p)
        return direction / torch.where(norm > 0, norm, 1)


def _norm(x: Float[Tensor, "*shape"], p: float) -> Float[Tensor, ""]:
    check_tensor(x)
    scale = largest_entry(x)
    return torch.linalg.vector_norm(x / scale, ord=p) * scale


def check_exponent(p: float, remedy: str) -> float:
    """Return p as a float, or raise InvalidArgument unless it is finite and above 1."""
    return in_range("p", p, "(1, inf)", remedy=remedy)
