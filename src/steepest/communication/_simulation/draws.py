"""All random numbers of a simulation, in the order in which they are drawn."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from steepest.communication._cluster import Heterogeneity
from steepest.communication._pattern import Array

__all__ = ["Draws"]


class Draws:
    """The random numbers of one run; the same seed gives the same numbers.

    Args:
        workers: n.
        heterogeneity: How workers differ.
        seed: Of numpy's PCG64.
    """

    def __init__(self, workers: int, heterogeneity: Heterogeneity, seed: int) -> None:
        self._rng, self._of = np.random.default_rng(seed), heterogeneity
        self.speeds = np.exp(heterogeneity.speed * self._rng.standard_normal(workers))
        self.links = np.exp(heterogeneity.links * self._rng.standard_normal(workers))
        self._members, self._speeds = np.arange(workers), self.speeds
        self.slow = np.zeros(workers, dtype=np.int64)
        """For how many steps each worker is slow yet."""

    def computing(self, members: NDArray[np.int64], seconds: float) -> Array:
        """Return the computing times of a step; slow workers come one step closer to their end."""
        if members is not self._members:  # the same array for as long as the members are the same
            self._members, self._speeds = members, self.speeds[members]
        times = seconds * self._speeds
        if self._of.jitter:
            normal = self._rng.standard_normal(len(members), dtype=np.float32)
            times *= np.exp(np.float32(self._of.jitter) * normal)
        if self._of.straggling:
            count = int(self._rng.binomial(len(members), self._of.straggling))
            if count:
                chosen = members[self._rng.integers(len(members), size=count)]
                self.slow[chosen] = self._rng.geometric(1 / self._of.slow_steps, size=count)
            slow = np.flatnonzero(self.slow[members])
            times[slow] *= self._of.slowdown
        return times

    def passed(self) -> None:
        """Note that a step is over, for the slow workers."""
        if self._of.straggling:
            np.maximum(self.slow - 1, 0, out=self.slow)

    def until_death(self, members: int, between: float) -> float:
        """Return after how many seconds the next of so many workers dies."""
        if not members or math.isinf(between):
            return math.inf
        return float(self._rng.exponential(between / members))

    def victim(self, members: int) -> int:
        """Return the place of the one that dies among so many."""
        return int(self._rng.integers(members))

    def happens(self, probability: float) -> bool:
        """Return whether something happens."""
        return bool(probability) and bool(self._rng.random() < probability)
