"""The singular value decomposition of a Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steepest._check import at_least
from steepest._importing import require
from steepest.errors import InvalidArgument
from steepest.linearize._jacobian.chunks import Jacobian
from steepest.linearize._spectrum.lanczos import largest_eigenpairs
from steepest.linearize._spectrum.plan import Plan, choose
from steepest.linearize._trace.network import quietly

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["SVD", "decompose"]


_ACCURACY = 1e-13
"""The residual at which block Lanczos stops, relative to the largest eigenvalue: a few times float64's rounding."""

_ACCURACY_OF_FEATURES = 1e-5
"""The error that a kernel in the model's precision may add to principal features, relative to their singular value."""


@dataclass(frozen=True, eq=False)
class SVD:
    """The k largest singular triplets of a Jacobian J = U diag(s) V', N x P.

    Attributes:
        singular_values: s [k], float64, descending. Those below the threshold are numerical noise.
        left: U [N, k], float64, row i C + c for (example, output).
        residuals: ||J v - s u||_2 of each triplet [k], where v = J' u / s: a singular value of J lies within that of s.
        rank: The numerical rank of J: the number of singular values above the threshold.
        threshold: The largest singular value times the plan's resolution.
        complete: Whether enough singular values were found to know the rank; if False, the rank of J is at least
            `rank`.
        plan: How the triplets were computed.
    """

    singular_values: Tensor
    left: Tensor
    residuals: Tensor
    rank: int
    threshold: float
    complete: bool
    plan: Plan
    _jacobian: Jacobian
    _right: Tensor | None = None

    def __repr__(self) -> str:
        shape = f"{len(self.left)} x {self._jacobian.columns}"
        rank = f"{'' if self.complete else 'at least '}{self.rank}"
        values = ", ".join(f"{s:.4g}" for s in self.singular_values[:3].tolist())
        values += ", ..." if len(self.singular_values) > 3 else ""
        return (
            f"SVD({len(self.singular_values)} triplets of {shape}: {values}; "
            f"rank {rank}, threshold {self.threshold:.3g}; {self.plan})"
        )

    @quietly
    def right(self) -> Tensor:
        """Return V [P, k] in the model's precision, V = J' U / s.

        Raises:
            InvalidArgument: If it does not fit into the budget, or k exceeds the rank.
        """
        self.require(len(self.singular_values))
        columns = self._jacobian.columns
        needed = columns * len(self.singular_values) * self._jacobian.dtype.itemsize
        self._jacobian.require(needed, f"right vectors of {columns} x {len(self.singular_values)}")
        if self._right is not None:
            return self._right.to(self._jacobian.dtype)
        return self._jacobian.transposed_product(self.left / self.singular_values)

    @property
    def right_operator(self) -> LinearOperator:
        """V [P, k] as a scipy operator, which is never materialised."""
        require("right_operator", "scipy", extra="linearize")
        from scipy.sparse.linalg import LinearOperator

        self.require(len(self.singular_values))
        scaled = self.left / self.singular_values

        def times(c: Any) -> Any:
            return self._jacobian.transposed_product((scaled @ _column(c))[:, None])[:, 0].double().cpu().numpy()

        def transposed_times(v: Any) -> Any:
            vector = _column(v).to(self._jacobian.dtype)
            return (scaled.T @ self._jacobian.product(vector[:, None]).double()[:, 0]).cpu().numpy()

        def _column(x: Any) -> Tensor:
            return torch.as_tensor(x, device=self.left.device).double().flatten()

        shape = self._jacobian.columns, len(self.singular_values)
        operator: Any = LinearOperator
        return operator(shape, matvec=times, rmatvec=transposed_times, dtype="float64")

    @property
    def kernel_dtype(self) -> torch.dtype:
        """The precision for kernels whose products with U / S are asked for: rounding grows by s1 / sk in them."""
        own = self._jacobian.dtype
        grown = torch.finfo(own).eps * self.singular_values[0] / self.singular_values[-1]
        return own if bool(grown <= _ACCURACY_OF_FEATURES) else torch.float64

    def require(self, k: int) -> None:
        """Refuse directions that are numerical noise.

        Raises:
            InvalidArgument: If k exceeds the rank.
        """
        if at_least("k", k, 0) > self.rank:
            raise InvalidArgument(
                f"k must be at most {self.rank}, as only {self.rank} singular values exceed the threshold "
                f"{self.threshold:.3g} and the others are numerical noise",
                got=k,
                remedy=f"Ask for k <= {self.rank}.",
            )

    def first(self, k: int) -> SVD:
        """Return the k largest triplets of these.

        Raises:
            InvalidArgument: If there are fewer.
        """
        k = at_least("k", k, 1, most=len(self.singular_values))
        return SVD(
            self.singular_values[:k],
            self.left[:, :k],
            self.residuals[:k],
            self.rank,
            self.threshold,
            self.complete,
            self.plan,
            self._jacobian,
            None if self._right is None else self._right[:, :k],
        )

    def right_exact(self) -> Tensor | None:
        """Return V in float64 where the plan has computed it, else None."""
        return self._right


def decompose(jacobian: Jacobian, k: int) -> SVD:
    """Return the k largest singular triplets, or all where the plan finds all."""
    rows = len(jacobian.inputs[0]) * jacobian.outputs
    plan = choose(rows, jacobian.columns, k, jacobian.dtype, jacobian.max_bytes, jacobian.network.converted_bytes)
    right = None
    if plan.method == "dense":
        matrix = _finite(jacobian.rows(None).flatten(0, 1).double())
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        right = right.T
        residuals = (matrix @ right - left * values).norm(dim=0)
    else:
        left, values, residuals = _by_kernel(jacobian, plan, rows, k)
    largest = float(values[0])
    threshold = largest * plan.resolution
    rank = int((values > threshold).sum())
    complete = len(values) == min(rows, jacobian.columns) or len(values) == rows or rank < len(values)
    return SVD(values, left, residuals, rank, threshold, complete, plan, jacobian, right)


def _finite(x: Tensor) -> Tensor:
    """Refuse gradients that are not finite: a matrix that holds any has no singular values."""
    if not bool(x.isfinite().all()):
        raise InvalidArgument(
            "gradients must be finite at every example",
            got="NaN or infinity",
            remedy="Look for it in features() and in x.",
        )
    return x


def _by_kernel(jacobian: Jacobian, plan: Plan, rows: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    if plan.method == "lanczos":

        def apply(x: Tensor) -> Tensor:
            return _finite(jacobian.product(jacobian.transposed_product(x, torch.float64)))

        squares, left = largest_eigenpairs(apply, rows, k, jacobian.device, _ACCURACY)
        images = apply(left)
    else:
        kernel = _finite(jacobian.gram(None, None, torch.float64))
        if plan.method == "gram":
            squares, left = torch.linalg.eigh(kernel)
            count = min(rows, jacobian.columns)
            squares, left = squares.flip(0)[:count], left.flip(1)[:, :count]
        else:
            squares, left = largest_eigenpairs(lambda x: kernel @ x, rows, k, jacobian.device, _ACCURACY)
        images = kernel @ left
    values = squares.clamp_min(0).sqrt()
    # Below the threshold v = J' u / s is meaningless, and s is numerical noise.
    smallest = max(float(values[0]) * plan.resolution, 1e-300)
    residuals = (images - left * squares).norm(dim=0) / values.clamp_min(smallest)
    return left, values, residuals
