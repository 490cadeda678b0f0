"""Norms of all singular values: the nuclear norm, and the p-norms between it and the spectral norm."""

from __future__ import annotations

from dataclasses import dataclass

from steepest.norms._lp import Lp, check_exponent
from steepest.norms._matrix import OfSingularValues
from steepest.norms._norm import Norm
from steepest.norms._vector import L1

__all__ = ["Nuclear", "Schatten"]


@dataclass(frozen=True)
class Nuclear(OfSingularValues):
    """The sum of the singular values; the dual is the largest; d(g) = u v' of the first pair: a step of rank 1.

    Leading dimensions are a stack of matrices, combined by max (the dual by sum).

    >>> import torch
    >>> g = torch.tensor([[3.0, 0.0], [0.0, -2.0]])
    >>> Nuclear()(g), Nuclear().dual_norm(g), Nuclear().duality_map(g)
    (tensor(5.), tensor(3.), tensor([[1., 0.],
            [0., 0.]]))
    """

    @property
    def of_values(self) -> Norm:
        """L1."""
        return L1()


@dataclass(frozen=True)
class Schatten(OfSingularValues):
    """The p-norm of the singular values; its dual is the q-norm, 1/p + 1/q = 1; d(g) = U diag(s^(q-1)) V' up to length.

    Leading dimensions are a stack of matrices, combined by max (the dual by sum). Schatten(2) is the Frobenius norm.

    Args:
        p: Finite and above 1.

    Raises:
        InvalidArgument: If p is not finite and above 1.

    >>> import torch
    >>> Schatten(2.0)(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    tensor(5.)
    """

    p: float

    def __post_init__(self) -> None:
        remedy = "Use Nuclear() for p = 1 and Spectral(exact=True) for p = infinity."
        object.__setattr__(self, "p", check_exponent(self.p, remedy))

    @property
    def of_values(self) -> Norm:
        """Lp(p)."""
        return Lp(self.p)
