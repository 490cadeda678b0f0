"""What the norms of matrices share: the check of arguments, singular values, and the norms made of them."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Generator

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.norms._norm import Norm
from steepest.norms._points import check_tensor
from steepest.norms._scale import largest_entry

__all__ = ["OfSingularValues", "check_matrix", "singular_values", "svd"]

# From this short side on, for float32, the eigenvalues of the Gram matrix in float64 come sooner than an SVD.
_GRAM = 128


def check_matrix(x: Tensor, what: str) -> None:
    """Raise InvalidArgument unless x is a tensor that can be measured and has at least two dimensions."""
    check_tensor(x)
    if x.ndim < 2:
        raise InvalidArgument(
            f"{what} must have a matrix",
            got=f"a tensor of shape {tuple(x.shape)}",
            remedy="Use L2, LInf or another norm of entries for vectors.",
        )


def svd(x: Float[Tensor, "*stack rows columns"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, S, V' of every matrix in float64, singular values that are rounding set to zero.

    For float64 those are up to max(rows, columns) * eps * (largest), what an SVD leaves of a zero. Others are computed
    in float64 too, where their own rounding, sqrt(max(rows, columns)) * eps * (largest), is the only one; large ones
    by the eigendecomposition of their Gram matrix, which in float64 resolves all that float32 can hold.
    """
    scale = largest_entry(x, (-2, -1)).double()
    y = x.double() / scale
    if x.dtype == torch.float64:
        u, s, vh = _svd(y)
        noise = max(x.shape[-2:]) * torch.finfo(x.dtype).eps
    else:
        u, s, vh = (_svd_of_gram if min(x.shape[-2:]) >= _GRAM else _svd)(y)
        noise = max(x.shape[-2:]) ** 0.5 * torch.finfo(torch.float32).eps
    return u, torch.where(s > s[..., :1] * noise, s, 0) * scale.squeeze(-1), vh


@contextlib.contextmanager
def _decomposing() -> Generator[None, None, None]:
    """Let a decomposition that fails inside be an InvalidArgument."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        remedy = "Look for NaN and infinity in it."
        raise InvalidArgument(
            "a matrix must have singular values to be found", got=str(error), remedy=remedy
        ) from error


def _svd(y: Float[Tensor, "*stack rows columns"]) -> tuple[Tensor, Tensor, Tensor]:
    with _decomposing():
        return torch.linalg.svd(y, full_matrices=False)


def _svd_of_gram(y: Float[Tensor, "*stack rows columns"]) -> tuple[Tensor, Tensor, Tensor]:
    if y.shape[-2] > y.shape[-1]:
        u, s, vh = _svd_of_gram(y.mT)
        return vh.mT, s, u.mT
    with _decomposing():
        squares, u = torch.linalg.eigh(y @ y.mT)
    s, u = squares.flip(-1).clamp_min(0).sqrt(), u.flip(-1)
    return u, s, (u.mT @ y) / torch.where(s > 0, s, 1).unsqueeze(-1)


def singular_values(x: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack k"]:
    """Return the singular values of every matrix, descending, in float64."""
    scale = largest_entry(x, (-2, -1)).double()
    y = x.double() / scale
    if x.dtype == torch.float64 or min(x.shape[-2:]) < _GRAM:
        with _decomposing():
            values = torch.linalg.svdvals(y)
    else:
        y = y if y.shape[-2] <= y.shape[-1] else y.mT
        with _decomposing():
            values = torch.linalg.eigvalsh(y @ y.mT).flip(-1).clamp_min(0).sqrt()
    return values * scale.squeeze(-1)


class OfSingularValues(Norm):
    """A norm of the vector of singular values, exact: d(g) = U diag(d(s)) V' of g = U diag(s) V'.

    Leading dimensions are a stack of matrices, combined by max (the dual by sum). A subclass must
    implement `of_values`.
    """

    @property
    @abstractmethod
    def of_values(self) -> Norm:
        """The norm of the singular values of one matrix."""

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the largest norm in the stack."""
        return self._of_each(x, self.of_values).amax().to(x.dtype)

    def dual_norm(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return the sum of the dual norms in the stack."""
        return self._of_each(g, self.of_values.dual_norm).sum().to(g.dtype)

    def duality_map(self, g: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return U diag(d(s)) V' of every matrix in the stack."""
        return self.duality_pair(g)[0]

    def duality_pair(self, g: Float[Tensor, "*shape"]) -> tuple[Tensor, Float[Tensor, ""]]:
        """Return the map and the dual norm, of one decomposition."""
        check_matrix(g, type(self).__name__)
        if not g.numel():
            return torch.zeros_like(g), g.new_zeros(())
        u, s, vh = svd(g)
        each = s.reshape(-1, s.shape[-1])
        maps = torch.stack([self.of_values.duality_map(values) for values in each]).view(s.shape)
        duals = torch.stack([self.of_values.dual_norm(values) for values in each])
        return ((u * maps.unsqueeze(-2)) @ vh).to(g.dtype), duals.sum().to(g.dtype)

    def _of_each(self, x: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
        check_matrix(x, type(self).__name__)
        if not x.numel():
            return x.new_zeros(1)
        values = singular_values(x)
        return torch.stack([measure(v) for v in values.reshape(-1, values.shape[-1])])
