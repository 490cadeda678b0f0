"""The transposed Jacobian as an object of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor

from steepest._check import instance

__all__ = ["Adjoint", "Operator"]


class Operator(ABC):
    """A matrix known by its products, such as a `Linearization`."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @abstractmethod
    def rmatvec(self, u: Tensor) -> Tensor:
        """Return J' u."""


J = TypeVar("J", bound=Operator)


class Adjoint(Generic[J]):
    """The transposed Jacobian J', with the interface of curvlinops' adjoints."""

    def __init__(self, linearization: J) -> None:
        instance("linearization", linearization, Operator, "a Linearization")
        self._linearization = linearization

    @property
    def shape(self) -> tuple[int, int]:
        """(P, n C)."""
        rows, columns = self._linearization.shape
        return columns, rows

    def __matmul__(self, u: Tensor) -> Tensor:
        return self._linearization.rmatvec(u)

    def adjoint(self) -> J:
        """Return J."""
        return self._linearization
