"""The reference objective: many local maxima, with its gradient and its Gaussian smoothing in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steepest import _check
from steepest.errors import InvalidArgument

__all__ = ["Multimodal", "multimodal", "quantize"]


@dataclass(frozen=True)
class Multimodal:
    """sin(2.5 x - 5 y) + cos(4 x + 8 y) - (x - 2)^2 - (y - 2)^2, to be maximised on [-1, 3]^2, where it has 17 maxima.

    Smoothed by e ~ N(0, I), E f(x + sigma e) is the same function with the sine times exp(-sigma^2 (2.5^2 + 5^2) / 2),
    the cosine times exp(-sigma^2 (4^2 + 8^2) / 2), minus 2 sigma^2.

    Args:
        sigma: The scale of the smoothing, >= 0.

    Attributes:
        bounds: The box.
        maximizer: The largest maximum of the function without smoothing.
        maximum: Its value there.

    >>> f = Multimodal()
    >>> round(float(f(torch.tensor(f.maximizer, dtype=torch.float64))), 6)
    1.962227
    """

    sigma: float = 0.0

    bounds: ClassVar[tuple[tuple[float, float], ...]] = ((-1.0, 3.0), (-1.0, 3.0))
    maximizer: ClassVar[tuple[float, float]] = (2.18016187, 2.04517311)
    maximum: ClassVar[float] = 1.962227298867942

    def __post_init__(self) -> None:
        _check.in_range("sigma", self.sigma, "[0, inf)")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values [...] at points [..., 2]."""
        a, b, sine, cosine = self._parts(x)
        return sine * torch.sin(2.5 * a - 5 * b) + cosine * torch.cos(4 * a + 8 * b) - self._bowl(a, b)

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradients [..., 2] at points [..., 2]."""
        a, b, sine, cosine = self._parts(x)
        slope, other = sine * torch.cos(2.5 * a - 5 * b), cosine * torch.sin(4 * a + 8 * b)
        return torch.stack(
            (2.5 * slope - 4 * other - 2 * (a - 2), -5 * slope - 8 * other - 2 * (b - 2)),
            dim=-1,
        )

    def smoothed(self, sigma: float) -> Multimodal:
        """Return E f(x + sigma e), e ~ N(0, I); smoothing twice adds the squares of the scales."""
        return Multimodal(math.hypot(self.sigma, _check.in_range("sigma", sigma, "[0, inf)")))

    def _bowl(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - 2).square() + (b - 2).square() + 2 * self.sigma**2

    def _parts(self, x: Any) -> tuple[Tensor, Tensor, float, float]:
        if not isinstance(x, Tensor) or not x.ndim or x.shape[-1] != 2:
            got = tuple(x.shape) if isinstance(x, Tensor) else x
            raise InvalidArgument(
                "x must be points of shape [..., 2]", got=got, remedy="Pass torch.tensor([-0.3, 0.5])."
            )
        square = self.sigma**2
        return x[..., 0], x[..., 1], math.exp(-square * 31.25 / 2), math.exp(-square * 80 / 2)


multimodal = Multimodal()
"""The reference objective."""


def quantize(objective: Callable[[Any], Tensor], width: float = 4.5, offset: float = 0.64) -> Callable[[Any], Tensor]:
    """Return floor(f / width + offset), whose gradient is zero wherever it exists.

    Of the reference objective it has the levels -4 to 1; the highest one covers .33% of the box.

    Args:
        objective: f.
        width: The height of a level, > 0.
        offset: Where the levels begin, in levels.

    Raises:
        InvalidArgument: If an argument is outside its range.

    >>> quantize(multimodal)(torch.tensor(multimodal.maximizer))
    tensor(1.)
    """
    _check.function("objective", objective)
    width, offset = _check.in_range("width", width, "(0, inf)"), _check.finite("offset", offset)

    def quantized(x: Any) -> Tensor:
        return torch.floor(objective(x) / width + offset)

    return quantized
