"""The spectral norm of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.norms._norm import Norm
from steepest.norms._polar import polar_factor

__all__ = ["Spectral"]


@dataclass(frozen=True)
class Spectral(Norm):
    """The largest singular value; the dual is the nuclear norm; d(g) = U V' of g = U S V'.

    Leading dimensions are a stack of matrices, combined by max (the dual by sum).

    Args:
        exact: With False the duality map is iterative (see `polar_factor`), its norm lies near 1, and
            `dual_norm` is <g, d(g)> / ||d(g)||, what that map really attains. With True all is exact.

    >>> g = torch.tensor([[3.0, 0.0], [0.0, -2.0]])
    >>> Spectral(exact=True)(g), Spectral(exact=True).dual_norm(g)
    (tensor(3.), tensor(5.))
    """

    exact: bool = False

    def __call__(self, x: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, ""]:
        """Return the largest singular value of all matrices in the stack."""
        return _singular_values(x)[..., 0].amax().to(x.dtype)

    def dual_norm(self, g: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, ""]:
        """Return the sum of all singular values, or what the iterative map attains of it."""
        if self.exact:
            return _singular_values(g).sum().to(g.dtype)
        direction = self.duality_map(g)
        norm = self(direction)
        return (g * direction).sum() / torch.where(norm > 0, norm, 1)

    def duality_map(self, g: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack rows columns"]:
        """Return the polar factor of every matrix in the stack."""
        return polar_factor(g, exact=self.exact)

    def duality_maps(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Return the polar factors, those of matrices of one shape computed as a stack, which holds a copy of them."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for i, g in enumerate(gs):
            key = (g.shape, g.dtype, g.device) if g.ndim == 2 else (i,)
            alike.setdefault(key, []).append(i)
        maps: dict[int, Tensor] = {}
        for indices in alike.values():
            if len(indices) == 1:
                maps[indices[0]] = self.duality_map(gs[indices[0]])
            else:
                maps.update(zip(indices, self.duality_map(torch.stack([gs[i] for i in indices])).unbind(), strict=True))
        return [maps[i] for i in range(len(gs))]


def _singular_values(x: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack k"]:
    return torch.linalg.svdvals(x if x.dtype == torch.float64 else x.float())
