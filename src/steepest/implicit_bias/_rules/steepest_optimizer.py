"""The optimizers of this library as rules: which rule each of them is, and their own code for the simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from steepest._schedules import inverse_square_root
from steepest.errors import InvalidArgument
from steepest.implicit_bias import _sources as sources
from steepest.implicit_bias._limits.affine import Affine, moved_by
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.line import single_equation
from steepest.implicit_bias._limits.linear import LinearRule
from steepest.implicit_bias._limits.rest import resting
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules import epoch_adam
from steepest.implicit_bias._rules.joint_norm import Part, diagonal_of, joint_norm, parts_of
from steepest.implicit_bias._rules.norm_steepest import NormSteepest
from steepest.implicit_bias._rules.optimizer import (
    OptimizerRule,
    coasting_limit,
    equations,
    no_parameters_alone,
    scheduled,
)
from steepest.implicit_bias._rules.rule import inverse_square
from steepest.implicit_bias._rules.sign_descent import sign_scale
from steepest.implicit_bias._tails import Schedule
from steepest.implicit_bias._two_cycle import two_cycle
from steepest.norms import L1, L2, Blockwise, LInf, Lp, Norm, Scaled
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent

__all__ = ["SteepestOptimizer"]

_KNOWN = (SteepestDescent, SignDescent, EpochAdam, Muon, Scion)


@dataclass(frozen=True, eq=False)
class SteepestOptimizer(OptimizerRule):
    """An optimizer of `steepest.optim`, mapped to its theory by its norms, mode, momentum, and schedule.

    penalized     quadratic norms are `Preconditioned`, others `NormSteepest`, with rates at which they converge
    constrained   at a constant rate there is no limit: on one equation it ends in a 2-cycle
    EpochAdam     the rule `EpochAdam` with lr schedule(t), if an epoch is one step
    """

    @property
    def name(self) -> str:
        """Its name in this library."""
        return f"steepest.optim.{self.kind.__name__}"

    @property
    def needs_vanishing_steps(self) -> bool:
        """Whether steps do not shrink with the gradient: those of EpochAdam, and where a group is constrained."""
        return self.kind not in _KNOWN or self.kind is EpochAdam or _is_constrained(self._any())

    def _any(self) -> SteepestDescent:
        """Return the live optimizer, or one over a single number, whose options are to be read."""
        if isinstance(self.made, Optimizer):
            return cast("SteepestDescent", self.made)
        try:
            return cast("SteepestDescent", self.made([torch.nn.Parameter(torch.zeros(1, 1))]))
        except (TypeError, ValueError, RuntimeError) as error:
            raise no_parameters_alone(error) from error

    def shapes(self, n: int) -> list[tuple[int, ...]]:
        """Return a vector's shape, and a matrix's of one row for norms of matrices."""
        return [(1, n)] if self.kind is Muon else [(n,), (1, n)]

    def takes(self, optimizer: Optimizer) -> None:
        """Raise InvalidArgument if a norm cannot measure its parameter."""
        for group in optimizer.param_groups:
            for p in group["params"]:
                group["norm"].duality_map(p.detach())

    def optimizer(self, n: int) -> Optimizer:
        """Return an optimizer over n numbers, which goes on where a run diverges, as torch's do.

        Raises:
            InvalidArgument: If it cannot be made from parameters alone.
        """
        made = cast("SteepestDescent", super().optimizer(n))
        if made.nonfinite == "raise":
            made.nonfinite = "ignore"
        return made

    def limit_of(self, problem: Problem, optimizer: Optimizer) -> Limit:
        """Return what theory says of this optimizer with these options."""
        where = equations(problem)
        if self.kind not in _KNOWN:
            return Unknown(f"{self.kind.__name__}: nothing is known here of where it ends.", where)
        known = cast("SteepestDescent", optimizer)
        if not any(isinstance(group["norm"], Blockwise) for group in known.param_groups):  # which takes names
            self.takes(known)
        parts = parts_of(known)
        if not all(0 <= part.rate < math.inf for part in parts) or not any(part.rate for part in parts):
            return Unknown(f"{self.name} with a learning rate of 0, below 0 or not finite has no limit.", where)
        if self.kind is EpochAdam:
            return self._epoch_adam(problem, cast("EpochAdam", known), parts)
        momenta = {(float(g["momentum"]), bool(g["nesterov"])) for g in known.param_groups}
        if _is_constrained(known):
            return self._constrained(problem, known, parts, any(momentum for momentum, _ in momenta))
        if not all(0 <= momentum < 1 for momentum, _ in momenta):
            return Unknown(f"{self.name} with a momentum outside of [0, 1) does not settle.", where)
        if len(momenta) > 1:
            return Unknown(f"{self.name} with a different momentum in each group: no theorem covers it.", where)
        ((momentum, nesterov),) = momenta
        D = diagonal_of(parts)
        if D is not None:
            return self._quadratic(problem, known, D, momentum, nesterov)
        return self._penalized(problem, known, parts, momentum)

    def _quadratic(
        self, problem: Problem, optimizer: SteepestDescent, D: Tensor, momentum: float, nesterov: bool
    ) -> Limit:
        """Return the limit of gradient descent, preconditioned by D, with the momentum of torch's SGD."""
        plain = bool((D[0] == D).all())
        name = f"{self.name} in {_in_words(optimizer)}" + (f" with momentum {momentum:g}" if momentum else "")
        rule = LinearRule(None if plain else D.sqrt(), nesterov, False, False, name, None if plain else D)
        return coasting_limit(problem, optimizer, D, rule)

    def _penalized(self, problem: Problem, optimizer: SteepestDescent, parts: list[Part], momentum: float) -> Limit:
        """Return the limit of penalized steps in other norms, which are those of one norm of all parts."""
        where, called = equations(problem), f"{self.name} in {_in_words(optimizer)}, penalized"
        if not min(part.rate for part in parts) > 0:
            return Unknown(f"{called}, with a learning rate of 0 in a group: no theorem covers it.", where)
        if any(part.norm.exactly() != part.norm for part in parts):
            return Unknown(
                f"{called}: its duality map is approximated by an iteration, whose rounding decides where it ends.",
                where,
            )
        if momentum and any(
            bool(s["momentum_buffer"].any()) for s in optimizer.state.values() if "momentum_buffer" in s
        ):
            return Unknown(
                f"{called}: the momentum that is under way may carry theta off the line of its steps.", where
            )
        norm, shape = joint_norm(parts)
        limit = NormSteepest(norm, "penalized", None if _of_entries(norm) else shape).limit(problem)
        if not limit.determined or not momentum:
            return _because(limit, f"{called}: {limit.reason}")
        if not isinstance(limit, Affine):
            return Unknown(
                f"{called}, with momentum {momentum:g}: that its direction is the one of largest margin is proved "
                f"without momentum ({sources.NORMS}, theorem 5).",
                where,
            )
        if bool((limit.limit == problem.theta0).all()):
            return _because(limit, f"{called}: {limit.reason}")
        if single_equation(problem) is not None:
            return _because(
                limit, f"{called}: {limit.reason} The momentum buffer is a multiple of a, too, and changes nothing."
            )
        return _because(
            limit,
            f"{called}: the equations have exactly one solution. Where theta comes to rest the momentum buffer is 0, "
            f"and so is the gradient: with momentum {momentum:g} it ends there, with steps at which it converges.",
        )

    def _constrained(
        self, problem: Problem, optimizer: SteepestDescent, parts: list[Part], has_momentum: bool
    ) -> Limit:
        """Return theta0 where all gradients vanish in any arithmetic; otherwise None, as steps do not shrink."""
        buffers = any("momentum_buffer" in state for state in optimizer.state.values())
        if not buffers and not bool(problem.A.any() if problem.separable_loss else _felt(problem).any()):
            still = resting(problem, whole=True)
            if still is not None:
                return still
        where, called = equations(problem), f"{self.name} in {_in_words(optimizer)}, constrained,"
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        at = f"at its constant rate of {max(rates):g}" if len(rates) == 1 else "at its constant rates"
        if scheduled(optimizer):
            at = "at a rate that a scheduler sets, of which nothing is known here,"
        takes = f"{called} takes steps {at} that do not shrink with the gradient"
        instead = self._instead(optimizer, has_momentum)
        if problem.separable_loss:
            return Unknown(
                f"{takes}: that the direction is the one of largest margin is proved for steps that vanish and have "
                f"an infinite sum ({sources.NORMALISED}).{instead}"
            )
        alike = all(group["mode"] == "constrained" for group in optimizer.param_groups)
        known = alike and not has_momentum and not at.endswith(",")
        cycle = _cycle(problem, parts) if known else None
        if cycle is None:
            return Unknown(f"{takes}, so that it does not come to rest.{instead}", where)
        small, large = cycle
        if not large > 0:
            return Unknown(
                f"{takes}. On this equation a whole number of them reaches the solution, but for rounding, which "
                f"decides whether it stops there or goes on in a 2-cycle (see two_cycle).{instead}",
                where,
            )
        return Unknown(
            f"{takes}: on this equation it ends in a 2-cycle, the residual alternating between {small:.6g} and "
            f"{large:.6g} (see two_cycle).{instead}",
            where,
        )

    def _instead(self, optimizer: SteepestDescent, has_momentum: bool) -> str:
        norms = {group["norm"] for group in optimizer.param_groups}
        if has_momentum or len(norms) > 1:
            return ""
        rule = "SignDescent()" if norms == {LInf()} else 'NormSteepest(norm, "constrained")'
        return f" For steps that vanish, predict steepest.implicit_bias.{rule}."

    def _epoch_adam(self, problem: Problem, optimizer: EpochAdam, parts: list[Part]) -> Limit:
        """Return the limit of the rule with this optimizer's schedule."""
        where, rates = equations(problem), {part.rate for part in parts}
        if optimizer.steps_per_epoch > 1:
            return Unknown(
                f"{self.name} with {optimizer.steps_per_epoch} steps per epoch: v remembers residuals that may have "
                f"been close to 0, and the next step can be of any length, so no limit is known.",
                where,
            )
        if scheduled(optimizer):
            return Unknown(
                f"{self.name} whose rate a scheduler sets, of which nothing is known here, beside its own schedule: "
                f"whether its steps suffice to reach a solution cannot be seen.",
                where,
            )
        if len(rates) > 1:
            return Unknown(f"{self.name} with a learning rate for each group: no theorem covers it.", where)
        if len(_counts(optimizer)) > 1:
            return Unknown(
                f"{self.name} whose parameters have taken different numbers of steps is no known rule.", where
            )
        (rate,) = rates
        vanishes_slowly = optimizer.schedule is inverse_square_root
        schedule = None if vanishes_slowly else _own_schedule(optimizer, lambda _t: rate)
        limit = epoch_adam.EpochAdam(schedule=schedule).limit(problem)
        which = "lr / sqrt(t + 1), which vanish and have an infinite sum" if vanishes_slowly else "its own schedule"
        return _because(
            limit, f"{self.name} is the rule steepest.implicit_bias.EpochAdam with steps of {which}. {limit.reason}"
        )

    def sizes(self, schedule: Schedule) -> Schedule:
        """Return the sizes of the steps that a run with this schedule of learning rates takes."""
        return _own_schedule(self._any(), schedule, self.fresh) if issubclass(self.kind, EpochAdam) else schedule

    def schedules(self, problem: Problem, steps: int) -> list[Schedule]:
        """Return shares of the optimizer's own rate, where steps do not shrink with the gradient."""
        if not self.needs_vanishing_steps:
            return super().schedules(problem, steps)
        rate = max(float(group["lr"]) for group in self._any().param_groups)
        return [lambda _t, size=share * rate: size for share in (1.0, 0.5, 0.25)]

    def scale(self, problem: Problem) -> float:
        """Return 1 / the largest eigenvalue of D A'A, or its like in another norm; the length of one crossing else."""
        if self.needs_vanishing_steps:
            return sign_scale(problem)
        optimizer = cast("SteepestDescent", self.optimizer(problem.columns))
        parts, largest = parts_of(optimizer), max(float(group["lr"]) for group in optimizer.param_groups)
        at_one = [replace(part, rate=part.rate / largest if largest > 0 else 1.0) for part in parts]
        momentum = max(float(group["momentum"]) for group in optimizer.param_groups)
        curvature = (1 - momentum) * (4 if problem.loss == "logistic" else 1)
        D = diagonal_of(at_one)
        if D is not None:
            return curvature * inverse_square(moved_by(D.sqrt(), problem.A))
        moving = [part for part in at_one if part.rate > 0]
        if len(moving) < len(at_one):
            return curvature * inverse_square(problem.A)
        norm, shape = joint_norm(at_one)
        return curvature * NormSteepest(norm, "penalized", shape).scale(problem) / max(part.rate for part in at_one)


def _is_constrained(optimizer: SteepestDescent) -> bool:
    return any(group["mode"] == "constrained" for group in optimizer.param_groups)


def _felt(problem: Problem) -> Tensor:
    """Return all products of which a residual is the sum: where they are 0, the gradient is 0 in any order of sums."""
    return torch.cat([(problem.A * problem.theta0).flatten(), problem.b * problem.A.abs().sum(dim=1)])


def _cycle(problem: Problem, parts: list[Part]) -> tuple[float, float] | None:
    """Return both residuals between which constant steps alternate on one equation, or None where that is not known."""
    if problem.rows > 1 or any(part.norm.exactly() != part.norm for part in parts):
        return None
    a, at, reach = problem.A[0], 0, 0.0
    for part in parts:
        size = math.prod(part.shape)
        reach += part.rate * float(part.norm.dual_norm(a[at : at + size].reshape(part.shape)))
        at += size
    residual = float((problem.b - problem.A @ problem.theta0).abs())
    try:
        return two_cycle([reach], 1.0, residual)
    except InvalidArgument:  # more steps than can be counted
        return None


def _counts(optimizer: Optimizer) -> set[int]:
    """Return how many steps the parameters have taken."""
    return {int(optimizer.state.get(p, {}).get("step", 0)) for group in optimizer.param_groups for p in group["params"]}


def _own_schedule(optimizer: SteepestDescent, rates: Schedule, fresh: bool = False) -> Schedule:
    """Return the steps that EpochAdam takes at these rates, from where it is."""
    own: Callable[[int], float] = cast("EpochAdam", optimizer).schedule
    before = 0 if fresh else max(_counts(optimizer))
    return lambda t: rates(t) * own(before + t)


def _of_entries(norm: Norm) -> bool:
    """Return whether the norm does not depend on the tensor's shape."""
    while isinstance(norm, Scaled):
        norm = norm.norm
    return isinstance(norm, (L1, L2, LInf, Lp))


def _in_words(optimizer: SteepestDescent) -> str:
    norms = list(dict.fromkeys(_named(group["norm"]) for group in optimizer.param_groups))
    return f"the norm {norms[0]}" if len(norms) == 1 else f"the norms {', '.join(norms[:3])}"


def _named(norm: Norm) -> str:
    said = repr(norm)
    return said if len(said) <= 60 and "\n" not in said else type(norm).__name__


def _because(limit: Limit, reason: str) -> Limit:
    """Return the same limit with another reason."""
    return replace(cast("Affine", limit), reason=reason)
