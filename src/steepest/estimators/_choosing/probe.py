"""What a few values of an objective show: noise, jumps, a derivative, and the scale at which it changes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.estimators._auditing.meter import Meter
from steepest.estimators._auditing.slopes import jumps, slopes
from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._space import Space

__all__ = ["LOOKED", "PAIRS", "Probe"]

LOOKED = 32
"""Pairs of points with which jumps are looked for."""

SCALES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Scales that are tried, in units of the entries of x, or of 1 where these are smaller."""

PAIRS = 16
"""Pairs of points by which a scale is judged."""


class Probe:
    """Evaluates an objective around x.

    Args:
        objective: f, which stops at the limit.
        space: The structure of x.
        meter: The limit.
        generator: For the points.

    Attributes:
        noise: The standard deviation of f at one point; 0 if it has the same value when it is evaluated again.
        graph: Whether autograd knows a derivative that is not zero.
        jumps: Whether jumps were seen.
        looked: Whether there were enough evaluations to look for them.
        farthest: The largest scale at which values were compared.
    """

    def __init__(self, objective: Objective, space: Space, meter: Meter, generator: Generator) -> None:
        self._objective, self._space, self._meter, self._generator = objective, space, meter, generator
        self.noise, self.farthest = 0.0, 0.0
        self.graph = self.jumps = self.looked = False
        self._seen: list[Tensor] = []

    @property
    def unit(self) -> float:
        """The size of the entries of x, at least 1."""
        return max(1.0, float(self._space.flat.double().square().mean().sqrt()))

    @property
    def constant(self) -> bool:
        """Whether all values at different points were equal."""
        if not self._seen:
            return False
        values = torch.cat(self._seen)
        return not self.noise and bool((values == values[0]).all())

    @property
    def compared(self) -> int:
        """At how many points values were compared."""
        return sum(map(len, self._seen))

    def again(self) -> None:
        """Evaluate f at x alone and again: it is found out how it wants to be called, and whether it is noisy."""
        count = 8 if self._meter.left >= 512 else 1
        rows = self._space.flat.expand(count, -1).clone()
        # In calls of their own, in which random numbers are new ones.
        first, second = (evaluate(self._objective, self._space, rows).double() for _ in range(2))
        noise = float((first - second).square().mean().sqrt()) / math.sqrt(2)
        rounding = 64 * torch.finfo(self._space.flat.dtype).eps * float(first.abs().max())
        self.noise = noise if noise > rounding else 0.0

    def look(self, sigma: float | None) -> None:
        """Find out whether f has a derivative that is not zero, and jumps, if that is affordable."""
        left, space = self._meter.left, self._space
        few = min(128, left // 16)
        if self.noise or few < LOOKED:
            return
        near = sigma or 0.1 * self.unit
        found = slopes(self._objective, space, torch.cat([space.flat[None], self._rows(15, near)]))
        self.graph = found is not None and bool(found[1].any())
        self.jumps = jumps(self._objective, space, self._rows(few, near), near)
        self.looked = True

    def visible_scale(self) -> float:
        """Return the least of a few scales at which most pairs of points have different values, of three at least.

        Where f jumps at x itself, most pairs differ at every scale, by the same two values. Where f is noisy, they have
        to differ by more than that.
        """
        scales = [factor * self.unit for factor in SCALES]
        with_two_values: list[float] = []
        for scale in scales:
            if self._meter.left < 2 * PAIRS + len(scales):
                break
            values = self.pairs(scale)
            if float(((values[0] - values[1]).abs() > 4 * self.noise).double().mean()) >= 0.5:
                if len(values.unique()) > 2:
                    return scale
                with_two_values.append(scale)
        return (with_two_values or (scales[-1:] if self.noise else scales[-2:]))[0]

    def pairs(self, scale: float, count: int = PAIRS) -> Tensor:
        """Return the values at pairs of points x +- scale e, [2, count]."""
        step = self._rows(count, scale) - self._space.flat
        rows = torch.cat([self._space.flat + step, self._space.flat - step])
        values = evaluate(self._objective, self._space, rows)
        self._seen.append(values)
        self.farthest = max(self.farthest, scale)
        return values.view(2, -1)

    def _rows(self, count: int, distance: float) -> Tensor:
        flat: Any = self._space.flat
        noise = torch.randn((count, self._space.size), generator=self._generator, dtype=flat.dtype, device=flat.device)
        return flat + distance * noise
