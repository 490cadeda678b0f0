"""The problem to solve: equations and a start, or labelled examples and a start, in float64."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeGuard, cast, get_args

import numpy as np
import torch
from torch import Tensor

from steepest._check import one_of
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["ArrayLike", "Loss", "Problem", "is_number", "numbers_of", "vector"]

Loss = Literal["squared", "logistic", "exponential"]
ArrayLike = Tensor | np.ndarray[Any, Any] | Sequence[Any] | float


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem: the loss of A theta against b, and where theta starts.

    With a_i the rows of A, the losses are

        squared      (1/2) sum_i (<a_i, theta> - b_i)^2,
        logistic     sum_i log(1 + exp(-b_i <a_i, theta>)),       b_i = -1 or 1,
        exponential  sum_i exp(-b_i <a_i, theta>).

    Attributes:
        A: m x n, one equation or example per row; float64 on the CPU, as are b and theta0.
        b: The m targets or labels.
        theta0: The n starting values.
        loss: The name of the loss.
        precision: The spacing of floating-point numbers at 1 in the dtype in which A was given, if that is float32;
            else that of float64.
        slack: The inconsistency of equations, relative to their numbers, that counts as rounding: 1e-13, or 5e-7 if
            both A and b came in float32.
        device: The device of A, on which results are returned.
        drawn: The number of rows before rows that move nothing were dropped; 0 if none were.
    """

    A: Tensor
    b: Tensor
    theta0: Tensor
    loss: Loss
    precision: float
    slack: float
    device: torch.device
    drawn: int = 0

    @classmethod
    def checked(
        cls,
        A: ArrayLike,
        b: ArrayLike,
        theta0: ArrayLike | None,
        loss: str,
        default: Callable[[int], Tensor | None],
    ) -> Problem:
        """Return the problem.

        Args:
            A: m x n.
            b: m numbers.
            theta0: n numbers.
            loss: A name.
            default: n -> the start where theta0 is None; zeros where that is None, too.

        Raises:
            InvalidArgument: For shapes that do not fit, entries that are no finite numbers, labels other than -1 and 1.
            UnknownName: For another loss.
        """
        if not isinstance(cast("object", loss), str):
            one_of("loss", loss, get_args(Loss))
        if loss not in get_args(Loss):
            raise UnknownName.among("loss", str(loss), get_args(Loss))
        given = _tensor("A", A)
        matrix = _real("A", given)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise InvalidArgument(
                "A must be a matrix with at least one row and one column",
                got=f"shape {tuple(matrix.shape)}",
                remedy="Pass one equation as [[...]], a stack of matrices to predict_batch.",
            )
        rows, columns = matrix.shape
        target = vector("b", b, rows, "one number for each row of A")
        if loss != "squared" and not bool((target.abs() == 1).all()):
            raise InvalidArgument(
                f"the labels of the {loss} loss must be -1 or 1",
                got=sorted({float(label) for label in target})[:5],
                remedy="Map labels 0 and 1 by 2 b - 1.",
            )
        if theta0 is None:
            theta0 = default(columns)
        if theta0 is None:
            start = matrix.new_zeros(columns)
        else:
            start = vector("theta0", theta0, columns, "one number for each column of A")
        precision = _precision(given)
        slack = max(1e-13, 4 * min(precision, _precision(_tensor("b", b))))
        return cls(matrix, target, start, cast("Loss", loss), precision, slack, given.device)

    @property
    def rows(self) -> int:
        """The number of equations or examples."""
        return self.A.shape[0]

    @property
    def columns(self) -> int:
        """The number of unknowns."""
        return self.A.shape[1]

    def only(self, rows: Tensor) -> Problem:
        """Return the problem of the chosen rows, the others being such that no gradient of theirs moves anything."""
        return replace(self, A=self.A[rows], b=self.b[rows], drawn=self.drawn or self.rows)

    @property
    def separable_loss(self) -> bool:
        """Whether the loss has its infimum at infinity on separable data."""
        return self.loss != "squared"

    @cached_property
    def signed(self) -> Tensor:
        """The rows b_i a_i: an example is on its label's side where <b_i a_i, theta> > 0."""
        return self.A * self.b[:, None]

    @cached_property
    def idle(self) -> list[int]:
        """The columns of zeros: features that no gradient can move."""
        return torch.nonzero((self.A == 0).all(dim=0)).flatten().tolist()

    def back(self, x: Tensor) -> Tensor:
        """Return a result where A was; a device without float64 keeps it on the CPU."""
        return x if self.device.type == "mps" else x.to(self.device)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is a real, finite Python or numpy number (no bool)."""
    numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return numeric and math.isfinite(cast("float", value))


def vector(name: str, value: ArrayLike, length: int, what: str) -> Tensor:
    """Return `length` finite float64 numbers on the CPU.

    Raises:
        InvalidArgument: For anything else.
    """
    given = numbers_of(name, value)
    if given.ndim == 0 and length == 1:
        given = given.reshape(1)
    if given.shape != (length,):
        raise InvalidArgument(
            f"{name} must be a vector of {length}{f', {what}' if what else ''}",
            got=f"shape {tuple(given.shape)}",
            remedy="Pass each output as a problem of its own." if given.ndim > 1 else "Look at A's shape.",
        )
    return given


def numbers_of(name: str, value: ArrayLike) -> Tensor:
    """Return real, finite numbers in float64 on the CPU, of any shape.

    Raises:
        InvalidArgument: For anything else.
    """
    return _real(name, _tensor(name, value))


def _tensor(name: str, value: ArrayLike) -> Tensor:
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            raise InvalidArgument(f"{name} must hold numbers", got="a meta tensor", remedy="Load it first.")
        _check_kind(name, "b" if value.dtype == torch.bool else "f")
        return value.detach().to_dense()
    try:
        array = np.asarray(value)
        if array.dtype == object and not all(_is_real(x) for x in array.flat):
            _check_kind(name, "O")
        if array.dtype != object:
            _check_kind(name, array.dtype.kind)
        kept = array.dtype.kind == "c" or (array.dtype.kind == "f" and array.dtype.itemsize <= 8)
        dtype = array.dtype.newbyteorder("=") if kept else np.dtype(np.float64)
        return torch.from_numpy(np.array(array, dtype=dtype, order="C"))
    except InvalidArgument:
        raise
    except Exception as error:  # whatever the object's own conversion raises
        raise InvalidArgument(f"{name} must hold numbers", got=type(value).__name__, remedy=str(error)) from error


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


_KINDS = {"b": "True and False", "O": "None, or other objects", "U": "text", "S": "bytes", "M": "dates", "m": "times"}


def _check_kind(name: str, kind: str) -> None:
    """Refuse what numpy would make numbers of."""
    if kind not in "iufc":
        remedy = "Pass floats or whole numbers."
        raise InvalidArgument(f"{name} must hold numbers", got=_KINDS.get(kind, "other objects"), remedy=remedy)


def _precision(value: Tensor) -> float:
    """Return the spacing at 1 of float32 and float64; coarser numbers, and whole ones, are taken as they are."""
    eps = torch.finfo(value.dtype).eps if value.dtype.is_floating_point else 1.0
    return eps if eps < 1e-6 else torch.finfo(torch.float64).eps


def _real(name: str, value: Tensor) -> Tensor:
    if value.is_complex():
        raise InvalidArgument(f"{name} must be real", got=value.dtype, remedy="Stack real and imaginary parts.")
    given = value.to("cpu", torch.float64)
    if not bool(given.isfinite().all()):
        raise InvalidArgument(f"{name} must be finite", got="NaN, infinity or None", remedy="Look at its entries.")
    return given
