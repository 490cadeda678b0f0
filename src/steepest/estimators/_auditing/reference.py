"""The gradient with which an estimator is compared, and how precisely it is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from steepest.errors import InvalidArgument
from steepest.estimators._auditing.claim import Claim
from steepest.estimators._auditing.meter import Exhausted
from steepest.estimators._auditing.moments import Moments
from steepest.estimators._auditing.slopes import jumps, slopes
from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._space import Space

__all__ = ["Reference", "find_reference", "precise"]

_CHUNK = 1 << 14
"""Samples that are drawn at a time."""

_PIECE = 1 << 12
"""Stratified samples that are evaluated at a time: arrays that stay in the cache."""

_REPLICAS = 12
"""Independent stratified samples, from which the error of their mean follows."""

_STRATA = {1: 1024, 2: 96, 3: 24}
"""Strata per dimension, to begin with."""

_LEAST = 4
"""Strata per dimension that are worth their name."""

_DIFFERENCED = 256
"""Up to this dimension, the derivative of f itself is found from values alone."""


@dataclass(frozen=True)
class Reference:
    """The gradient of F at a point.

    Attributes:
        gradient: [d], float64.
        error: Its standard error per entry, [d].
        along: The standard error of its length.
        value: F(x).
        value_error: Its standard error.
        evaluations: What was spent on it.
        method: How it was found, a clause.
    """

    gradient: Tensor
    error: Tensor
    along: float
    value: float
    value_error: float
    evaluations: int
    method: str

    @property
    def known(self) -> bool:
        """Whether there is one: whether it was affordable, and f finite where it was evaluated."""
        return bool(self.gradient.isfinite().all()) and math.isfinite(self.value)

    @classmethod
    def none(cls, row: Tensor, value: float = math.nan) -> Reference:
        """Return what stands for a gradient that is not known."""
        unknown = torch.full_like(row, torch.nan, dtype=torch.float64)
        return cls(unknown, unknown, math.nan, value, math.nan, 0, "none")


def precise(objective: Objective, x: Any) -> Space:
    """Return the point in float64, if the objective takes it there; else as it is."""
    own = Space(x)
    try:
        double = Space(x.double() if isinstance(x, Tensor) else {name: each.double() for name, each in x.items()})
        found = evaluate(objective, double, double.flat[None])
        if bool(found.isfinite().all()):
            return double
    except Exception:  # weights of an objective in float32, for example
        return own
    return own


def find_reference(
    objective: Objective,
    space: Space,
    row: Tensor,
    claim: Claim,
    generator: Generator,
    most: int,
    accuracy: float,
    patience: float = math.inf,
) -> Reference:
    """Return the gradient of F at `row`, to a relative accuracy, from at most about `most` evaluations.

    Args:
        objective: f.
        space: From `precise`.
        row: The point [d].
        claim: What F is.
        generator: For the samples.
        most: The budget.
        accuracy: The standard error that is aimed at, as a share of the length of the gradient.
        patience: Seconds beyond which three times that is enough.
    """
    with torch.no_grad():
        if claim.sigma == 0:
            return _derivative(objective, space, row, "differences of f itself")
        smoothed: Any = getattr(objective, "smoothed", None)
        if claim.normal and callable(smoothed):
            exact: Any = smoothed(claim.sigma)
            return _derivative(exact, space, row, "the exact smoothing, objective.smoothed(sigma)")
        quantile = _quantile(claim)
        # A fifth of what is affordable, or less, to begin with.
        cells, spent = min(_STRATA.get(space.size, 0), int((most / (5 * _REPLICAS)) ** (1 / space.size))), 0
        found: Reference | None = None
        while quantile is not None and cells >= _LEAST and spent + _REPLICAS * cells**space.size <= most:
            spent += _REPLICAS * cells**space.size
            began = time.perf_counter()
            try:
                found = _stratified(objective, space, row, claim, generator, quantile, cells, spent)
            except Exhausted:
                if found is None:
                    raise
                break
            next_one = (time.perf_counter() - began) * 2**space.size
            enough = accuracy * (3 if next_one > patience else 1)
            if not found.known or found.along <= enough * float(found.gradient.norm()):
                break
            cells *= 2
        if found is not None:
            return found
        return _sampled(objective, space, row, claim, generator, most, accuracy)


# f itself


def _derivative(objective: Objective, space: Space, row: Tensor, method: str) -> Reference:
    """Return the derivative of f at `row` by differences of fourth order; in many dimensions by a checked graph."""
    before = 1
    value = float(evaluate(objective, space, row[None])[0])
    if space.size > _DIFFERENCED:
        found = slopes(objective, space, row[None])
        checks = torch.randn(8, space.size, dtype=row.dtype, device=row.device, generator=_fixed(row))
        checks /= space.size**0.5
        before += 33
        if found is not None:
            by_values, error = _differences(objective, space, row, checks)
            by_graph = checks @ found[1][0]
            if bool(((by_values - by_graph).abs() <= 10 * error + 1e-3 * by_graph.abs()).all()):
                gradient = found[1][0].double()
                near = 1e-6 * gradient.abs() + 1e-12
                return Reference(gradient, near, float(near.norm()), value, 0.0, before, f"{method}, and its graph")
    gradient, error = _differences(objective, space, row, torch.eye(space.size, dtype=row.dtype, device=row.device))
    gradient, error = gradient.double(), error.double()
    return Reference(gradient, error, _along(gradient, error), value, 0.0, before + 4 * space.size, method)


def _differences(objective: Objective, space: Space, row: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives along directions [m, d], and bounds of their errors."""
    step = space.precision**0.2 * (1 + float(row.square().mean().sqrt())) / 2
    moves = torch.cat([factor * step * directions for factor in (1, -1, 2, -2)])
    values = evaluate(objective, space, row + moves).double().view(4, -1)
    second = (values[0] - values[1]) / (2 * step)
    wide = (values[2] - values[3]) / (4 * step)
    found = (4 * second - wide) / 3
    rounding = 4 * space.precision * values.abs().amax(0) / step
    return found.to(row.dtype), ((found - second).abs() * 0.05 + rounding).to(row.dtype)


def _fixed(row: Tensor) -> Generator:
    return Generator(row.device).manual_seed(1)


def _along(gradient: Tensor, error: Tensor) -> float:
    """Return the error of the length of a gradient whose entries have independent errors."""
    length = float(gradient.norm())
    return float((gradient / length * error).norm()) if length else float(error.norm())


# Few dimensions: stratified samples


def _quantile(claim: Claim) -> Callable[[Tensor], Tensor] | None:
    """Return the quantile function of q, if it is a distribution of single numbers with a positive density."""
    distribution = claim.perturbation.distribution
    if distribution is None:
        return torch.special.ndtri
    if claim.perturbation.shape:
        return None
    try:
        claim.perturbation.require_score()
        probe: Any = distribution.icdf(torch.tensor([0.25, 0.75]))
        if not bool(probe.isfinite().all()):
            return None
    except Exception:  # no quantile function, or no density for a score
        return None
    return distribution.icdf


def _stratified(
    objective: Objective,
    space: Space,
    row: Tensor,
    claim: Claim,
    generator: Generator,
    quantile: Callable[[Tensor], Tensor],
    cells: int,
    spent: int,
) -> Reference:
    """Return E (f(x + sigma e) - f(x)) s(e) / sigma from one random point in each of the cells of equal probability."""
    size = space.size
    axis = torch.arange(cells, dtype=torch.float64, device=row.device)
    corners = torch.cartesian_prod(*[axis] * size).view(-1, size)
    here = evaluate(objective, space, row[None]).double()[0]

    def replica() -> tuple[Tensor, Tensor]:
        total, sums = row.new_zeros((), dtype=torch.float64), row.new_zeros(size, dtype=torch.float64)
        for piece in corners.split(_PIECE):
            inside = torch.rand(piece.shape, dtype=torch.float64, device=row.device, generator=generator)
            noise = quantile(((piece + inside) / cells).clamp(1e-300, 1 - 1e-16)).to(row.dtype)
            values = evaluate(objective, space, row + claim.sigma * noise).double()
            total += values.sum()
            sums += (values - here) @ claim.perturbation.score(noise).double()
        return sums / (len(corners) * claim.sigma), total / len(corners)

    found: list[tuple[Tensor, Tensor]] = []
    try:
        for _ in range(_REPLICAS):
            found.append(replica())
    except Exhausted:
        if len(found) < 3:
            raise
    every, all_values = torch.stack([each[0] for each in found]), torch.stack([each[1] for each in found])
    gradient = every.mean(0)
    wider = (1 + 6 / len(found)) / len(found) ** 0.5  # the tails of Student's t for so few replicas
    length = gradient.norm()
    along = (every @ gradient / length).std() if float(length) else every.std(0).norm()
    return Reference(
        gradient,
        every.std(0) * wider,
        float(along) * wider,
        float(all_values.mean()),
        float(all_values.std()) * wider,
        spent,
        f"{len(found) * len(corners):,} stratified samples",
    )


# Many dimensions: plain samples

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Perturbations [n, d] -> values [n] and terms [m, d] whose mean is the gradient."""


def _sampled(
    objective: Objective, space: Space, row: Tensor, claim: Claim, generator: Generator, most: int, accuracy: float
) -> Reference:
    """Return the mean over samples of the slopes of f, or where these are noisier or f jumps, of the score function."""

    def draw(count: int) -> Tensor:
        return claim.perturbation.draw(count, row, generator, space.shape)

    kinds, spent = _kinds(objective, space, row, claim, draw, most)
    count = max(64, min(_CHUNK, (1 << 20) // space.size))
    best: tuple[float, int, Terms, str] | None = None
    for cost, terms, method in kinds:
        noise = draw(min(count, 2048, max(64, most // (8 * cost))))
        _, found = terms(noise)
        spent += cost * len(noise)
        mean = found.double().mean(0)
        spread = float((found.double() @ mean / mean.norm().clamp(min=1e-300)).var()) * cost * len(noise) / len(found)
        if best is None or spread < best[0]:
            best = spread, cost, terms, method
    assert best is not None
    _, cost, terms, method = best
    moments, values = Moments(space.size, row.device), Moments(1, row.device)
    while True:
        noise = draw(max(16, min(count, (most - spent) // cost)))
        try:
            found, every = terms(noise)
        except Exhausted:
            if not moments.count:
                raise
            break
        spent += cost * len(noise)
        moments.add(every.double())
        values.add(found.double()[:, None])
        along = moments.along()
        enough = along <= accuracy * float(moments.mean.norm()) or not math.isfinite(along)
        if enough or spent + cost * min(count, 256) > most:
            break
    return Reference(
        moments.mean,
        moments.error,
        moments.along(),
        float(values.mean[0]),
        float(values.error[0]),
        spent,
        f"{moments.count:,} {method}",
    )


def _kinds(
    objective: Objective, space: Space, row: Tensor, claim: Claim, draw: Callable[[int], Tensor], most: int
) -> tuple[list[tuple[int, Terms, str]], int]:
    """Return what can be averaged: (evaluations per sample, terms, name), and what was spent on finding that out."""
    sigma, perturbation, centre = claim.sigma, claim.perturbation, claim.perturbation.centre
    found: list[tuple[int, Terms, str]] = []
    noise = draw(max(16, min(512, most // 16)))
    broken = jumps(objective, space, row + sigma * noise, sigma)
    spent = 4 * len(noise)
    number = max(4, min(32, 2048 // space.size))
    if not broken and number * (2 * space.size + 1) <= most // 4:
        step = space.precision ** (1 / 3) * max(sigma, float(row.abs().max()) * 1e-3)

        def along_axes(noise: Tensor) -> tuple[Tensor, Tensor]:
            base = row + sigma * noise
            each = torch.eye(space.size, dtype=row.dtype, device=row.device) * step
            points = torch.cat([base[:, None] + each, base[:, None] - each], dim=1).view(-1, space.size)
            values = evaluate(objective, space, points).view(len(noise), 2, -1)
            return values.mean((1, 2)), (values[:, 0] - values[:, 1]) / (2 * step)

        def by_graph(noise: Tensor) -> tuple[Tensor, Tensor]:
            rows = row + sigma * noise
            if centre is None:
                both = slopes(objective, space, rows)
                assert both is not None
                return both
            both = slopes(objective, space, torch.cat([rows, row + sigma * (2 * centre - noise)]))
            assert both is not None
            return both[0].view(2, -1).mean(0), both[1].view(2, -1, space.size).mean(0)

        few = noise[:number]
        graph = slopes(objective, space, row + sigma * few)
        _, by_values = along_axes(few)
        spent += len(few) * (2 * space.size + 1)
        near = 1e-3 * by_values.abs() + 0.01 * by_values.abs().mean()
        if graph is not None and bool(((graph[1] - by_values).abs() <= near).double().mean() > 0.98):
            found.append(
                (1 if centre is None else 2, by_graph, "gradients of f at perturbed points, checked by differences")
            )
        else:
            found.append((2 * space.size, along_axes, "central differences at perturbed points"))
    try:
        perturbation.require_score()
    except InvalidArgument:  # its density has no derivative
        if broken or not found:
            found.append((4 * space.size, _wide(objective, space, row, sigma), "central differences of F"))
        return found, spent

    def scores(noise: Tensor) -> tuple[Tensor, Tensor]:
        score = perturbation.score(noise)
        values = evaluate(objective, space, row + sigma * noise)
        if centre is None:
            half = len(values) // 2  # each half's mean is the baseline of the other
            base = torch.cat([values[half:].mean().expand(half), values[:half].mean().expand(len(values) - half)])
            return values, (values - base)[:, None] * score / sigma
        mirrored = evaluate(objective, space, row + sigma * (2 * centre - noise))
        return (values + mirrored) / 2, ((values - mirrored) / (2 * sigma))[:, None] * score

    found.append((1 if centre is None else 2, scores, "samples of an independent score function"))
    return found, spent


def _wide(objective: Objective, space: Space, row: Tensor, sigma: float) -> Terms:
    """Return central differences of F with common random numbers, with steps of sigma / 10 and twice that."""

    def terms(noise: Tensor) -> tuple[Tensor, Tensor]:
        base, eye = row + sigma * noise, torch.eye(space.size, dtype=row.dtype, device=row.device)
        both: list[Tensor] = []
        for step in (0.1 * sigma, 0.2 * sigma):
            points = torch.cat([base[:, None] + step * eye, base[:, None] - step * eye], dim=1).view(-1, space.size)
            both.append(evaluate(objective, space, points).view(len(noise), 2, -1) / (2 * step))
        first, second = (each[:, 0] - each[:, 1] for each in both)
        return both[0].mean((1, 2)) * 0.2 * sigma, (4 * first - second) / 3

    return terms
