"""How far estimates at one point are from the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steepest.estimators._questions.ascent import Ascent
from steepest.estimators._questions.many import gradients

__all__ = ["Error", "error_of"]


@dataclass(frozen=True)
class Error:
    """The error of an estimate, as a share of the length of the gradient; nan where that is zero.

    Attributes:
        bias: The length of mean estimate - gradient.
        bias_error: The standard error of the bias.
        spread: The root mean square distance of an estimate from the mean estimate.
    """

    bias: float
    bias_error: float
    spread: float

    @property
    def total(self) -> float:
        """The root mean square distance of an estimate from the gradient."""
        return float(np.hypot(self.bias, self.spread))


def error_of(source: Any, ascent: Ascent, gradient: torch.Tensor, repetitions: int, seed: int) -> Error:
    """Return the error of a source at the start of an ascent.

    Each estimate's distance from the mean of all has an expected square of (n - 1) / n of the variance, and the mean's
    own variance, which is 1 / n of it, is part of the squared distance of the mean from the gradient.
    """
    point = ascent._point()
    generator = torch.Generator(point.device).manual_seed(seed)
    found = gradients(source, ascent.objective, point.expand(repetitions, *point.shape), generator).flatten(1).double()
    length = float(gradient.double().norm())
    variance = float((found - found.mean(0)).square().sum()) / max(repetitions - 1, 1)
    off = float((found.mean(0) - gradient.flatten().double()).norm())
    bias = np.sqrt(max(off**2 - variance / repetitions, 0.0))
    scale = length if length > 0 else math.nan
    return Error(float(bias) / scale, float(np.sqrt(variance / repetitions)) / scale, float(np.sqrt(variance)) / scale)
