"""What the points show at which an estimator evaluates the objective: whether samples are new, and their scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.estimators._auditing.claim import Claim
from steepest.estimators._auditing.repetitions import Repetitions, flat
from steepest.estimators._auditing.watched import Watched
from steepest.estimators._space import Space

__all__ = ["Samples", "look_at"]

CALLS = 12
ROWS = 256


@dataclass(frozen=True)
class Samples:
    """Points of a few calls.

    Attributes:
        rows: The points minus x, [n, d] by call.
        values: The values of f there, [n] by call.
        errors: The standard errors that the calls reported, [d] each.
        repeated: The share of points that had been in the call before; x itself does not count.
        doubled: The share of points that are twice in a call.
        same: Whether all calls evaluated at the same points.
        reproducible: Whether a generator in the same state led to the same points.
    """

    rows: list[Tensor]
    values: list[Tensor]
    errors: list[Tensor]
    repeated: float
    doubled: float
    same: bool
    reproducible: bool

    def scale(self, claim: Claim, generator: Generator, space: Space) -> float:
        """Return the root mean square of the distances from x, over that of sigma e."""
        every = torch.cat(self.rows)
        every = every[every.any(1)]
        drawn = claim.perturbation.draw(4096, space.flat.double(), generator, space.shape)
        expected = claim.sigma * float(drawn.square().mean().sqrt())
        return float(every.square().mean().sqrt()) / expected if len(every) and expected else math.nan

    @property
    def paired(self) -> bool:
        """Whether the points of a call come in pairs around one centre."""
        for rows in self.rows:
            if len(rows) < 4 or len(rows) % 2:
                return False
            half = len(rows) // 2
            sums = (rows[:half] + rows[half:], rows[::2] + rows[1::2])
            limit = 1e-3 * float(rows.abs().max())
            if not any(float((each - each[0]).abs().max()) <= limit for each in sums):
                return False
        return bool(self.rows)


def look_at(repetitions: Repetitions, watched: Watched, generator: Generator, x: Tensor) -> Samples:
    """Return the points of a few calls, the last two of which begin with the same state of a generator."""
    rows: list[Tensor] = []
    values: list[Tensor] = []
    errors: list[Tensor] = []
    watched.keep = True
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    for index in range(CALLS):
        watched.clear()
        again = Generator(generator.device).manual_seed(seed) if index >= CALLS - 2 else None
        estimate: Any = repetitions.call(again)
        errors.append(flat(estimate.standard_error))
        rows.append(torch.cat(watched.rows) - x if watched.rows else x.new_zeros((0, x.numel())))
        values.append(torch.cat(watched.values) if watched.values else x.new_zeros(0))
    watched.keep = False
    watched.clear()
    keys = [[each.tobytes() for each in call[:ROWS].cpu().numpy() if each.any()] for call in rows]
    sets = [set(each) for each in keys]
    fresh = range(1, CALLS - 2)
    common = sum(len(sets[i] & sets[i - 1]) for i in fresh)
    repeated = common / max(1, sum(len(sets[i]) for i in fresh))
    doubled = 1 - sum(map(len, sets)) / max(1, sum(map(len, keys)))
    same = all(each == sets[0] for each in sets[1 : CALLS - 2])
    reproducible = len(rows[-1]) == len(rows[-2]) and bool(torch.allclose(rows[-1], rows[-2], rtol=1e-5, atol=1e-7))
    return Samples(rows[:-2], values[:-2], errors[:-2], repeated, doubled, same, reproducible)
