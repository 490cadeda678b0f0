"""The transposed Jacobian as an object of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from steepest._check import instance

if TYPE_CHECKING:
    from steepest.linearize._linearization import Linearization

__all__ = ["Adjoint"]


class Adjoint:
    """J', as curvlinops calls it."""

    def __init__(self, linearization: Linearization) -> None:
        from steepest.linearize._linearization import Linearization

        self._linearization = instance("linearization", linearization, Linearization, "a Linearization")

    @property
    def shape(self) -> tuple[int, int]:
        """(P, n C)."""
        rows, columns = self._linearization.shape
        return columns, rows

    def __matmul__(self, u: Tensor) -> Tensor:
        return self._linearization.rmatvec(u)

    def adjoint(self) -> Linearization:
        """Return J."""
        return self._linearization
