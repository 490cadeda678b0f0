"""The largest eigenvalues of a symmetric positive semidefinite operator by block Lanczos with restarts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steepest.errors import SteepestError

__all__ = ["largest_eigenpairs"]

_BLOCKS = 6
"""Blocks of the Krylov space between restarts."""


def largest_eigenpairs(
    apply: Callable[[Tensor], Tensor], n: int, k: int, device: torch.device, tolerance: float, restarts: int = 200
) -> tuple[Tensor, Tensor]:
    """Return the k largest eigenvalues, descending, and their vectors [n, k], in float64.

    Each cycle spans X, A X, ..., A^5 X with full reorthogonalisation and keeps the best k + 8 Ritz vectors (a thick
    restart), until ||A u - w u|| <= tolerance * w_1 for all k.

    Args:
        apply: X [n, b] -> A X.
        n: Size of A.
        k: The number of eigenvalues, 1 to n.
        device: The device of the computation.
        tolerance: Relative to the largest eigenvalue.
        restarts: The maximum number of cycles.

    Raises:
        SteepestError: If the tolerance is not reached.

    Source: Golub and Underwood, "The block Lanczos method for computing eigenvalues" (1977); Wu and Simon,
    "Thick-restart Lanczos method for large symmetric eigenvalue problems" (2000, doi:10.1137/S0895479898334605).
    """
    width = min(n, k + 8)
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(n, width, generator=draw, dtype=torch.float64).to(device)
    basis = torch.linalg.qr(start)[0]
    images = apply(basis)
    last, worst = images, float("inf")
    for _ in range(restarts):
        for _ in range(_BLOCKS - 1):
            fresh = _outside(basis, last)
            if not fresh.shape[1]:
                break
            last = apply(fresh)
            basis, images = torch.cat([basis, fresh], 1), torch.cat([images, last], 1)
        inner = basis.T @ images
        values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        chosen = vectors[:, -width:].flip(1)
        found = values[-width:].flip(0)
        basis, images = basis @ chosen, images @ chosen
        residuals = images - basis * found
        worst = float(residuals[:, :k].norm(dim=0).max())
        if worst <= tolerance * float(found[0]):
            return found[:k], basis[:, :k]
        last = residuals  # the Krylov space goes on from what the Ritz vectors leave over
    raise SteepestError(
        "block Lanczos must converge",
        got=f"a residual of {worst:.2g} after {restarts} cycles",
        remedy="Ask for fewer singular values, or give a larger max_bytes so that the Gram matrix fits.",
    )


def _outside(basis: Tensor, block: Tensor) -> Tensor:
    """Return an orthonormal basis of a block's part outside of the basis, with as many columns as fit."""
    block = block[:, : basis.shape[0] - basis.shape[1]]
    for _ in range(3):  # twice is enough (Parlett), once more as the first leaves columns of very different lengths
        block = torch.linalg.qr(block - basis @ (basis.T @ block))[0]
    return block
