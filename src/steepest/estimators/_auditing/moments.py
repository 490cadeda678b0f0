"""Means and standard errors of vectors that come in pieces."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Moments"]


class Moments:
    """The mean of rows, its standard error per entry, and along itself.

    Args:
        size: The number of entries, d.
        device: Where they are.

    Attributes:
        count: Rows so far.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.count = 0
        self._sum = torch.zeros(size, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self._sum)
        self._direction: Tensor | None = None
        self._base: Tensor | None = None
        self._along = [0.0, 0.0]

    def add(self, rows: Tensor) -> None:
        """Add rows [n, d]."""
        if self._base is None:
            self._base = rows.mean(0)
            length = self._base.norm()
            self._direction = self._base / length if float(length) else torch.ones_like(self._base) / len(self._base)
        assert self._direction is not None
        shifted = rows - self._base
        projected = shifted @ self._direction
        self._along[0] += float(projected.sum())
        self._along[1] += float(projected.square().sum())
        self._sum += shifted.sum(0)
        self._squares += shifted.square().sum(0)
        self.count += len(rows)

    @property
    def mean(self) -> Tensor:
        """The mean, [d]."""
        assert self._base is not None
        return self._base + self._sum / self.count

    @property
    def variance(self) -> Tensor:
        """The variance of a row per entry, [d]."""
        spread = self._squares - self._sum.square() / self.count
        return spread.clamp(min=0) / max(1, self.count - 1)

    @property
    def error(self) -> Tensor:
        """The standard error of the mean per entry, [d]."""
        return (self.variance / self.count).sqrt()

    def along(self) -> float:
        """Return the standard error of the mean in the direction of the first rows' mean."""
        spread = self._along[1] - self._along[0] ** 2 / self.count
        return (max(spread, 0.0) / max(1, self.count - 1) / self.count) ** 0.5
