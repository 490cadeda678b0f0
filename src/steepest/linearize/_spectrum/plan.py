"""How a spectrum is computed, chosen by sizes and memory budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from steepest.errors import InvalidArgument
from steepest.linearize._jacobian.chunks import readable

__all__ = ["Plan", "choose"]

_DENSE_WORK = 4e9
"""Multiplications, N P min(N, P), up to which a dense decomposition takes seconds."""

_GRAM_ROWS = 6000
"""Rows up to which all eigenvalues of the Gram matrix take less than a minute."""


@dataclass(frozen=True)
class Plan:
    """How singular values are found.

    Attributes:
        method: "dense" (singular value decomposition of J in float64), "gram" (eigenvalues of J J' in float64),
            "kernel lanczos" (block Lanczos on J J') or "lanczos" (block Lanczos with products by J and J').
        bytes: The approximate peak of memory, in bytes.
        resolution: Singular values below this share of the largest cannot be distinguished from zero.
        reason: Why it was chosen.
    """

    method: Literal["dense", "gram", "kernel lanczos", "lanczos"]
    bytes: int
    resolution: float
    reason: str

    def __str__(self) -> str:
        return f"{self.method}, about {readable(self.bytes)}: {self.reason}"


def choose(rows: int, columns: int, k: int, dtype: torch.dtype, max_bytes: int, used: int = 0) -> Plan:
    """Return the plan for the k largest singular values of a rows x columns Jacobian.

    The dense decomposition resolves singular values down to max(N, P) eps of the largest, eps that of the model's
    precision; the Gram matrix squares them, and in float64 resolves down to sqrt(N eps64), 1e-7 or so.

    Raises:
        InvalidArgument: If no plan fits into the budget; the message names the smallest budget that suffices.
    """
    eps, eps64 = torch.finfo(dtype).eps, torch.finfo(torch.float64).eps
    own = max(rows, columns) * eps
    squared = max(math.sqrt(rows * eps64), math.sqrt(max(rows, columns)) * eps)
    small = min(rows, columns)
    dense = 8 * (3 * rows * columns + 3 * small * small)
    gram = 8 * 3 * rows * rows
    block = k + 8
    basis = 8 * rows * 2 * 6 * block
    kernel = 8 * rows * rows + basis
    products = 8 * 2 * columns * block + basis
    free = max_bytes - used
    size = f"{rows} x {columns}"
    if rows * columns * small <= _DENSE_WORK and dense <= free:
        return Plan("dense", dense, own, f"{size} is small, and this is the most precise")
    wanted_few = k <= rows // 8
    if gram <= free and (rows <= _GRAM_ROWS or not wanted_few):
        return Plan("gram", gram, squared, f"{size} is too large for a dense decomposition, {rows} x {rows} is not")
    if kernel <= free and wanted_few:
        return Plan("kernel lanczos", kernel, squared, f"{k} of {rows}, and the kernel fits into the budget")
    if products <= free and wanted_few:
        return Plan("lanczos", products, squared, f"{k} of {rows}, and the kernel does not fit into the budget")
    if dense <= free:
        return Plan("dense", dense, own, f"{size} is large for this plan, but nothing else fits into the budget")
    least = used + min(dense, gram, *((kernel, products) if wanted_few else ()))
    raise InvalidArgument(
        f"{k} singular values of a {size} Jacobian must fit into max_bytes = {readable(max_bytes)}",
        got=readable(least),
        remedy=f"Pass max_bytes={least} or more{'' if wanted_few else ', or ask for fewer'}.",
    )
