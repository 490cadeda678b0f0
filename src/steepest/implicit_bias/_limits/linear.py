"""The limits of rules whose step is a fixed linear map of gradients: they stay in theta0 + D (row space)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.implicit_bias import _sources as sources
from steepest.implicit_bias._limits.affine import Root, moved_by
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.margin import quadratic_margin
from steepest.implicit_bias._limits.preconditioned import preconditioned
from steepest.implicit_bias._limits.separation import Separation, finite_minimiser, separation
from steepest.implicit_bias._numerics.decomposition import factors, lengths
from steepest.implicit_bias._numerics.rational import Metric
from steepest.implicit_bias._problem import Problem

__all__ = ["LinearRule", "linear_limit", "targets_at_minimum"]

_MOST_CURVED = 1e6
"""The condition of the features beyond which float64 does not find a finite minimiser to 1e-8."""


@dataclass(frozen=True)
class LinearRule:
    """The properties of a linear rule that its limit depends on.

    Attributes:
        root: W, D = W W' being the preconditioner.
        nesterov: Whether its momentum is Nesterov's.
        minibatches: Whether steps see some rows only.
        normalised: Whether the length of a step does not shrink with the gradient.
        name: The name used in sentences.
        D: The preconditioner itself, where it is known better than by its root.
    """

    root: Root
    nesterov: bool
    minibatches: bool
    normalised: bool
    name: str
    D: Metric = None


def linear_limit(problem: Problem, rule: LinearRule) -> Limit:
    """Return the limit of a rule that moves by D times sums of gradients."""
    # A row without a moving coordinate contributes to no gradient, whatever its target or label.
    felt = moved_by(rule.root, problem.A).any(dim=1)
    if not bool(felt.all()):
        if not bool(felt.any()):
            return _resting(problem, rule)
        problem = problem.only(felt)
    return _separable(problem, rule) if problem.separable_loss else _squared(problem, rule)


def _resting(problem: Problem, rule: LinearRule) -> Limit:
    limit = preconditioned(problem, problem.b, rule.root, rule.D)
    if isinstance(limit, Unknown):
        return limit
    return limit.because(f"No row of A touches a coordinate that {rule.name} moves: theta stays where it starts.")


def _squared(problem: Problem, rule: LinearRule) -> Limit:
    limit = preconditioned(problem, problem.b, rule.root, rule.D)
    if isinstance(limit, Unknown):
        return limit
    whose = _whose(rule)
    stays = (
        f"{_capital(rule.name)} moves theta by combinations of the columns of {whose} only, and the one point of "
        f"theta0 + range({whose}) "
    )
    when = (
        " with steps that vanish and have an infinite sum" if rule.normalised else " with steps at which it converges"
    )
    source = f" ({sources.NORMS}, theorem 1 with a quadratic potential; for minibatches {sources.MIRROR_MINIBATCHES})."
    if limit.exact:
        return limit.because(f"{stays}that solves the equations is the limit{when}{source}")
    if rule.minibatches:
        return Unknown(
            "The equations contradict each other, so the gradients of minibatches do not vanish together: a constant "
            "step keeps theta moving, and where it ends depends on the steps and the order.",
            (problem.A, limit.target),
        )
    return limit.because(
        f"The equations contradict each other{_within(rule)}. {stays}that minimises the squared residuals is the "
        f"limit{when}{source}"
    )


def _capital(name: str) -> str:
    return name if name.startswith(("torch.", "steepest.")) else name[:1].upper() + name[1:]


def _whose(rule: LinearRule) -> str:
    return "A'" if rule.root is None else "D A'"


def _within(rule: LinearRule) -> str:
    frozen = isinstance(rule.root, Tensor) and rule.root.ndim == 1 and bool((rule.root == 0).any())
    return " within the coordinates that move" if frozen else ""


def _separable(problem: Problem, rule: LinearRule) -> Limit:
    moving = moved_by(rule.root, problem.signed)
    kind = separation(moving)
    if kind is Separation.STRICT:
        return _margin(problem, rule)
    if kind is not Separation.NONE:
        return Unknown(f"There is no margin to claim and no finite minimiser: {kind.value}.")
    found = targets_at_minimum(problem, rule.root)
    if found is None:
        return Unknown("The rank of A is ambiguous, or the finite minimiser could not be computed.")
    if rule.minibatches:
        return Unknown(
            "The data are not separable, so there is no margin to claim, and the gradients of minibatches do not "
            "vanish together at the finite minimiser: a constant step keeps theta moving.",
            (problem.A, found),
        )
    # Margins are known to the rounding of a loss near 1.
    limit = preconditioned(problem, found, rule.root, rule.D, unsure=1.0)
    if isinstance(limit, Unknown):
        return limit
    return limit.because(
        "The data are not separable, so there is no margin to claim: the loss has one minimiser in theta0 + "
        f"range({_whose(rule)}), where {rule.name} stays; if it converges, it ends there "
        f"({sources.NONSEPARABLE})."
    )


def _margin(problem: Problem, rule: LinearRule) -> Limit:
    if rule.minibatches and problem.loss == "exponential":
        return Unknown(
            "The data are separable, so theta diverges; for minibatches the direction is proved for smooth "
            f"losses ({sources.MINIBATCH_MARGIN}), which the exponential is not."
        )
    if rule.nesterov:
        return Unknown(
            "The data are separable, so theta diverges; that its direction is the largest margin is proved "
            f"without momentum ({sources.SEPARABLE}) and with heavy-ball momentum ({sources.HEAVY_BALL}), not with "
            f"Nesterov's at a constant factor."
        )
    limit = quadratic_margin(problem.signed, rule.root)
    if limit is None:
        return Unknown("The direction of largest margin is the limit, but could not be computed to 1e-9.")
    which = "L2 norm" if rule.root is None else "norm ||W^-1 theta||_2, D = W W'"
    return limit.because(
        f"The data are separable: theta diverges, and its direction tends to the largest margin in the {which} "
        f"({sources.SEPARABLE}; minibatches: {sources.MINIBATCH_MARGIN}; heavy ball: {sources.HEAVY_BALL}), "
        + ("with steps that vanish and have an infinite sum." if rule.normalised else "with small steps, as 1 / log t.")
    )


def targets_at_minimum(problem: Problem, root: Root) -> Tensor | None:
    """Return A theta at the finite minimiser within theta0 + D (row space), or None where it cannot be computed."""
    moving = moved_by(root, problem.signed)
    found = factors(moving / lengths(moving)[:, None], problem.precision)
    if not found.clear or (found.rank and found.condition > _MOST_CURVED):
        return None
    Z, offset = moving @ found.right, problem.signed @ problem.theta0
    margins = offset + Z @ finite_minimiser(Z, offset, problem.loss)
    weights = torch.sigmoid(-margins) if problem.loss == "logistic" else torch.exp(-margins)
    # Feature by feature: where a gradient is small only because the feature is, the minimum may be at infinity.
    slopes, sizes = (moving.mT @ weights).abs(), moving.mT.abs() @ weights
    small = (slopes <= 1e-10 * sizes) & sizes.isfinite()
    return margins * problem.b if bool(small.all() & margins.isfinite().all()) else None
