"""Small runs, step by step in float64, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from steepest._check import at_least
from steepest.errors import InvalidArgument
from steepest.implicit_bias._limits.affine import Affine
from steepest.implicit_bias._limits.preconditioned import preconditioned
from steepest.implicit_bias._limits.separation import Separation, separation
from steepest.implicit_bias._losses import gradient_at, loss_at
from steepest.implicit_bias._problem import ArrayLike, Problem, is_number, numbers_of
from steepest.implicit_bias._rules.accepted import RuleLike, as_rule
from steepest.implicit_bias._rules.rule import Rule
from steepest.implicit_bias._tails import Schedule, Schedules, check_steps, steps_at, tail_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Simulation", "as_schedules", "as_seeds", "run", "simulate"]

_RECORDS = 512
_CONVERGED = 1e-8
_MOST_SEEDS = 10**6


@dataclass(frozen=True, eq=False)
class Simulation:
    """The runs of one rule; a run is a schedule with a seed, the seeds of the first schedule first.

    Attributes:
        point: The end of each run, runs x n.
        theta0: The start of all runs, n.
        residual: Per run, at its end: for the squared loss ||A theta - t||_2, t the part of b that can be reached; for
            the others the norm of the gradient.
        converged: Whether a run has come to rest: its residual is at most 1e-8 of that at the start, and, for a rule
            whose steps do not shrink with the gradient, its steps vanish and after each of them the following ones sum
            to at least as much.
        steps: The recorded steps, 0 (the start) included; all of them up to 512, else evenly spaced and the last 64.
        trajectory: theta at these steps, records x runs x n.
        losses: The loss of all rows at these steps, records x runs.
        schedules: The index of each run's schedule.
        seeds: The seed of each run.
    """

    point: Tensor
    theta0: Tensor
    residual: Tensor
    converged: Tensor
    steps: Tensor
    trajectory: Tensor
    losses: Tensor
    schedules: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def direction(self) -> Tensor:
        """(theta - theta0) / ||theta - theta0||_2 of each run, runs x n; 0 for a run that did not move."""
        moved = self.point - self.theta0
        return torch.nn.functional.normalize(moved, dim=-1)


def simulate(
    rule: RuleLike,
    A: ArrayLike,
    b: ArrayLike,
    schedule: Schedules,
    steps: int,
    *,
    theta0: ArrayLike | None = None,
    loss: str = "squared",
    seeds: int | Sequence[int] = 1,
) -> Simulation:
    """Simulate a rule, in float64, for every schedule with every seed at once.

    The losses are sums over the rows of a batch, the squared one halved (see `predict`).

    Args:
        rule: As for `predict`.
        A: m x n.
        b: m targets, or labels -1 and 1.
        schedule: t -> the size of step t = 0, 1, ..., a number for a constant one, or several of both.
        steps: The number of steps, >= 1.
        theta0: n numbers; by default as for `predict`.
        loss: "squared", "logistic" or "exponential".
        seeds: The seeds of the order of the rows, for a rule with a batch size: their number, or a list. Each epoch has
            a new order.

    Raises:
        InvalidArgument: For an invalid problem, rule, schedule, number of steps or seed.

    >>> from steepest.implicit_bias import SignDescent
    >>> run = simulate(SignDescent(), [[1, 0.1, 0.01]], [1], [0.01, lambda t: 0.3 * 0.98**t], steps=2000)
    >>> run.residual.mul(1e4).round(), run.converged
    (tensor([10.,  0.], dtype=torch.float64), tensor([False,  True]))
    """
    known = as_rule(rule)
    problem = Problem.checked(A, b, theta0, loss, known.start)
    at_least("steps", steps, 1, remedy="Try 2000.")
    schedules, chosen = as_schedules(schedule), as_seeds(seeds)
    return run(known, problem, schedules, steps, chosen)


def run(rule: Rule, problem: Problem, schedules: Sequence[Schedule], steps: int, seeds: Sequence[int]) -> Simulation:
    """Run every schedule with every seed; `simulate` checks the arguments first."""
    sizes = _sizes(schedules, steps)
    runs = len(schedules) * len(seeds)
    repeated = torch.from_numpy(sizes).repeat_interleave(len(seeds), dim=0).T.reshape(steps, runs, 1).contiguous()
    theta, step = problem.theta0.expand(runs, -1).clone(), rule.step(problem, runs)
    batches = _batches(rule, problem, seeds, len(schedules))
    records = _recorded(steps)
    kept, trajectory = iter([*records, -1]), [theta]
    due = (next(kept), next(kept))[1]
    for t in range(steps):
        batch = next(batches)
        theta = step(theta, lambda x, batch=batch: gradient_at(problem, x, batch), repeated[t], t)
        if t + 1 == due:
            trajectory.append(theta)
            due = next(kept)
    path = torch.stack(trajectory)
    residual, first = _residual(problem, theta), _residual(problem, path[0])
    converged = residual <= _CONVERGED * first.clamp_min(torch.finfo(torch.float64).tiny)
    if problem.separable_loss and bool(converged.any()):
        examples = problem.signed[problem.A.any(dim=1)]
        if len(examples) and separation(examples) is not Separation.NONE:
            converged &= False  # the loss falls forever
    if rule.needs_vanishing_steps:
        low = converged.reshape(len(schedules), -1)
        stays = [
            bool(at_rest.any()) and tail_of(rule.sizes(schedule)).converges
            for schedule, at_rest in zip(schedules, low, strict=True)
        ]
        converged &= torch.tensor(stays).repeat_interleave(len(seeds))
    return Simulation(
        point=problem.back(theta),
        theta0=problem.back(problem.theta0),
        residual=problem.back(residual),
        converged=problem.back(converged),
        steps=torch.tensor(records),
        trajectory=problem.back(path),
        losses=problem.back(loss_at(problem, path)),
        schedules=tuple(i for i in range(len(schedules)) for _ in seeds),
        seeds=tuple(seed for _ in schedules for seed in seeds),
    )


def as_schedules(schedule: Schedules) -> list[Schedule]:
    """Return schedules as they are, numbers as constant steps, one or several of both, an array of numbers too.

    Raises:
        InvalidArgument: For what is none of these, a number that is no step, or none at all.
    """
    if callable(schedule) or is_number(schedule):
        each: list[object] = [schedule]
    elif isinstance(schedule, (np.ndarray, Tensor)):
        dense = isinstance(schedule, np.ndarray) or schedule.layout == torch.strided
        each = list(numbers_of("schedule", schedule).flatten().tolist()) if dense else []
    elif isinstance(schedule, Sequence) and not isinstance(schedule, (str, bytes)):
        each = list(schedule)
    else:
        each = []
    if not each or not all(callable(one) or is_number(one) for one in each):
        raise InvalidArgument(
            "schedule must be a function t -> step size, a number, or a list of these",
            got=schedule,
            remedy="Pass 0.01, or lambda t: 0.1 / (t + 1).",
        )
    return [_as_schedule(one) for one in each]


def _as_schedule(schedule: Any) -> Schedule:
    if callable(schedule):
        return cast("Schedule", schedule)
    size = float(schedule)
    check_steps(np.array([size]), "schedule")
    return lambda _t: size


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Return seeds 0, 1, ... for a count, seeds as they are.

    Raises:
        InvalidArgument: For what is no count and no seeds, or none at all.
    """
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds >= 1:
        return list(range(at_least("seeds", seeds, 1, most=_MOST_SEEDS)))
    whole = list(seeds) if isinstance(seeds, (list, tuple, range)) else []
    if not whole or not all(type(cast("object", seed)) is int and 0 <= seed < 2**63 for seed in whole):
        raise InvalidArgument("seeds must be a count or whole numbers >= 0", got=seeds, remedy="Pass 4, or [0, 1].")
    return whole


def _sizes(schedules: Sequence[Schedule], steps: int) -> NDArray[np.float64]:
    rows = [steps_at(schedule, range(steps)) for schedule in schedules]
    if short := [len(row) for row in rows if len(row) < steps]:
        raise InvalidArgument(
            "a schedule must have a step for every t", got=f"none at {short[0]}", remedy="Take fewer steps."
        )
    sizes = np.stack(rows)
    for row in sizes:
        check_steps(row, "schedule")
    return sizes


def _recorded(steps: int) -> list[int]:
    if steps < _RECORDS:
        return list(range(steps + 1))
    spread = np.linspace(0, steps, _RECORDS - 64).round().astype(int)
    return sorted({*spread.tolist(), *range(steps - 63, steps + 1)})


def _batches(rule: Rule, problem: Problem, seeds: Sequence[int], schedules: int) -> Iterator[Tensor | None]:
    """Yield the rows of every step: new orders for each seed at each epoch, the same for all schedules."""
    if rule.sees_all(problem):
        while True:
            yield None
    size = rule.batch_size or problem.rows
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        orders = torch.stack([torch.randperm(problem.rows, generator=g) for g in generators]).repeat(schedules, 1)
        yield from orders.split(size, dim=1)


def _residual(problem: Problem, theta: Tensor) -> Tensor:
    if problem.separable_loss:
        return torch.linalg.vector_norm(gradient_at(problem, theta.reshape(-1, problem.columns)), dim=-1).reshape(
            theta.shape[:-1]
        )
    nearest = preconditioned(problem, problem.b, None)
    target = nearest.target if isinstance(nearest, Affine) else problem.b
    return torch.linalg.vector_norm(theta @ problem.A.mT - target, dim=-1)
