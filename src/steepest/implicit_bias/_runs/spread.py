"""How far apart a rule ends for different steps and orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steepest._check import at_least
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import Rule
from steepest.implicit_bias._runs.simulate import Simulation, as_schedules, as_seeds, run

if TYPE_CHECKING:
    from steepest.implicit_bias._tails import Schedules

__all__ = ["Spread", "spread"]


@dataclass(frozen=True, eq=False)
class Spread:
    """The ends of runs of one rule that differ only in their steps and orders.

    Attributes:
        points: The ends of the runs that came to rest at a minimum, k x n; where fewer than two did, of all finite
            runs, and for separable data their directions.
        rested: The number of runs that came to rest.
        distance: The largest distance between two of the points; NaN for fewer than two.
        simulation: All runs.
    """

    points: Tensor
    rested: int
    distance: float
    simulation: Simulation

    def __str__(self) -> str:
        """Return the numbers in a sentence."""
        runs = f"{self.rested} of {len(self.simulation.point)} runs came to rest"
        return f"{runs}{', at most' if self.rested > 1 else '; ends'} {self.distance:.3g} apart"


def spread(
    rule: Rule,
    problem: Problem,
    schedules: Schedules | None,
    steps: int,
    seeds: int,
) -> Spread:
    """Run the rule with every schedule and seed, and compare the ends."""
    at_least("steps", steps, 1, remedy="Try 2000.")
    orders = as_seeds(seeds)
    chosen = rule.schedules(problem, steps) if schedules is None else as_schedules(schedules)
    simulation = run(rule, problem, chosen, steps, orders[:1] if rule.sees_all(problem) else orders)
    finite = simulation.point.isfinite().all(dim=1)
    rested = simulation.converged & finite
    if int(rested.sum()) > 1:
        points = simulation.point[rested]
    else:
        points = (simulation.direction if problem.separable_loss else simulation.point)[finite]
    apart = float(torch.cdist(points, points).max()) if len(points) > 1 else torch.nan
    return Spread(points, int(rested.sum()), apart, simulation)
