"""The norm of a diagonal preconditioner."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._check import floating
from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.norms._by_value import ByValue
from steepest.norms._norm import Norm
from steepest.norms._points import check_tensor
from steepest.norms._vector import L2

__all__ = ["Ellipsoid"]


@dataclass(frozen=True, eq=False)
class Ellipsoid(ByValue, Norm):
    """||x||^2 = sum x_i^2 / D_i; the dual is ||g||_*^2 = sum D_i g_i^2; d(g) = D g / ||g||_*.

    Its penalized step -(alpha/2) D g is gradient descent preconditioned by D.

    Args:
        diagonal: D, positive and finite, of the tensor's shape or one that broadcasts to it; it is copied.

    Raises:
        InvalidArgument: If an entry is not finite and above 0; when called, if the shapes do not fit.

    >>> Ellipsoid(torch.tensor([4.0, 1.0]))(torch.tensor([2.0, 0.0]))
    tensor(1.)
    """

    diagonal: Float[Tensor, "*shape"]

    def __post_init__(self) -> None:
        floating("diagonal", self.diagonal)
        if not bool((self.diagonal.isfinite() & (self.diagonal > 0)).all()):
            raise InvalidArgument(
                "diagonal must be positive and finite",
                got=self.diagonal,
                remedy="Leave out entries that must not move; no direction can have norm 0.",
            )
        object.__setattr__(self, "diagonal", self.diagonal.detach().clone())

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sqrt(sum x_i^2 / D_i)."""
        return L2()(x / self._fitted(x).sqrt()).to(x.dtype)

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sqrt(sum D_i g_i^2)."""
        return L2()(g * self._fitted(g).sqrt()).to(g.dtype)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return D g / ||g||_*, and 0 at 0."""
        root = self._fitted(g).sqrt()
        return L2().duality_map(g * root).mul_(root).to(g.dtype)

    def penalized_step(self, g: Float[Tensor, "*shape"], alpha: float | Tensor) -> Float[Tensor, "*shape"]:
        """Return -(alpha/2) D g."""
        # In float64, for neither D g nor D alpha need be in the range of g's dtype where their product is.
        factor = self._fitted(g).double() * (-alpha / 2)
        return (g.double() * factor).to(g.dtype)

    def _fitted(self, x: Tensor) -> Tensor:
        check_tensor(x)
        try:
            fits = torch.broadcast_shapes(self.diagonal.shape, x.shape) == x.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise InvalidArgument(
                f"the diagonal must fit the tensor, which has shape {tuple(x.shape)}",
                got=f"a diagonal of shape {tuple(self.diagonal.shape)}",
                remedy="Give each shape an Ellipsoid of its own.",
            )
        return self.diagonal.to(x.device)
