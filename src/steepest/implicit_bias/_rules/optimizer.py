"""What all torch optimizers share as rules: their own code for the steps, and options that rule out a limit."""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from steepest.errors import InvalidArgument
from steepest.implicit_bias._limits.affine import Affine
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.linear import LinearRule, linear_limit
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import Gradient, Rule, Step

__all__ = [
    "OptimizerRule",
    "class_of",
    "coasting_limit",
    "equations",
    "no_parameters_alone",
    "parameters_of",
    "scheduled",
    "write",
]


@dataclass(frozen=True, eq=False)
class OptimizerRule(Rule):
    """An optimizer as a rule; its learning rate is the schedule's step, or its own where a claim depends on it.

    A subclass must implement what is known of its limit, given an optimizer over the problem's numbers without an
    option that rules a limit out, and a scale.

    Attributes:
        made: What makes it from parameters, or a live one.
        fresh: Whether a live one starts without the state that it holds.
    """

    made: Callable[..., Optimizer] | Optimizer
    fresh: bool = False

    @property
    def kind(self) -> type[Optimizer]:
        """The optimizer's class."""
        return type(self.made) if isinstance(self.made, Optimizer) else class_of(self.made)

    @property
    @abstractmethod
    def name(self) -> str:
        """The name used in sentences."""

    @abstractmethod
    def limit_of(self, problem: Problem, optimizer: Optimizer) -> Limit:
        """Return what theory says of this optimizer with these options."""

    def afresh(self) -> Self:
        """Return the rule without the state of a live optimizer, which is that of the end of its run."""
        return replace(self, fresh=True)

    def start(self, n: int) -> Tensor | None:
        """Return a live optimizer's parameters.

        Raises:
            InvalidArgument: If they are not n numbers.
        """
        if not isinstance(self.made, Optimizer):
            return None
        if any(p.is_complex() for p in parameters_of(self.made)):
            raise InvalidArgument(
                "a live optimizer must hold real numbers", got="complex parameters", remedy="Split them."
            )
        flat = [p.detach().to("cpu", torch.float64).flatten() for p in parameters_of(self.made)]
        theta = torch.cat(flat) if flat else torch.zeros(0)
        if len(theta) != n:
            raise InvalidArgument(
                f"a live optimizer must hold {n} numbers, one per column of A",
                got=len(theta),
                remedy="Pass its class, or the columns of all its parameters, flattened in order.",
            )
        return theta

    def limit(self, problem: Problem) -> Limit:
        """Return what theory says of this optimizer with these options."""
        optimizer, where = self.optimizer(problem.columns), equations(problem)
        if isinstance(self.made, Optimizer) and (hooked := _hooked(self.made)):
            return Unknown(f"{self.name} has {hooked}, which may move theta in any way.", where)
        if scheduled(optimizer) and len(optimizer.param_groups) > 1:
            return Unknown(
                f"{self.name} has a scheduler, which may change the ratios of its groups' learning rates, and with "
                f"them the preconditioner.",
                where,
            )
        if scheduled(optimizer) and any(_moves_on(state) for state in optimizer.state.values()):
            return Unknown(
                f"{self.name} has a scheduler, and momentum that is under way: how far that carries theta depends on "
                f"learning rates that are still to come.",
                where,
            )
        for group in optimizer.param_groups:
            if any(p.dtype not in (torch.float32, torch.float64) for p in group["params"]):
                return Unknown(f"{self.name}'s parameters are too coarse to hold a limit.", where)
            if group.get("maximize"):
                return Unknown(f"{self.name} with maximize=True climbs the loss.", where)
            if not all(p.requires_grad for p in group["params"]):
                return Unknown(f"{self.name} holds parameters that require no gradient, and do not move.", where)
            if group.get("weight_decay", 0) != 0:
                return Unknown(
                    f"{self.name}'s weight decay of {float(group['weight_decay']):g} pulls theta to 0 for as long as "
                    f"it runs: where it ends depends on how the loss is scaled, and solves no equation.",
                    where,
                )
        return self.limit_of(problem, optimizer)

    def shapes(self, n: int) -> list[tuple[int, ...]]:
        """Return the shapes in which n numbers may be the optimizer's parameter, the first that it takes being used."""
        return [(n,)]

    def takes(self, optimizer: Optimizer) -> None:
        """Raise an error if the optimizer cannot step a parameter of this shape."""

    def optimizer(self, n: int) -> Optimizer:
        """Return an optimizer over n numbers: a new one, or a copy of the live one with its state.

        Raises:
            InvalidArgument: If it cannot be made from parameters alone.
        """
        if isinstance(self.made, Optimizer):
            self.start(n)
            return _copied(self.made, self.fresh)
        refused: list[Exception] = []
        for shape in self.shapes(n):
            try:
                made = self.made([torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))])
                self.takes(made)
            except (TypeError, ValueError, RuntimeError) as error:
                refused.append(error)
            else:
                return made
        raise no_parameters_alone(refused[0]) from refused[0]

    def step(self, problem: Problem, runs: int) -> Step:
        """Return the steps of one optimizer per run, each with its own learning rate."""
        optimizers = [self.optimizer(problem.columns) for _ in range(runs)]
        parameters = [parameters_of(optimizer) for optimizer in optimizers]
        # A live optimizer's groups keep the ratios of their learning rates.
        ratios = [_ratios(optimizer) for optimizer in optimizers]

        def step(theta: Tensor, gradient: Gradient, size: Tensor, _t: int) -> Tensor:
            moved = torch.empty_like(theta)
            for r, g in enumerate(gradient(theta)):
                write(parameters[r], theta[r], g, sparse=self.kind is torch.optim.SparseAdam)
                for group, ratio in zip(optimizers[r].param_groups, ratios[r], strict=True):
                    group["lr"] = float(size[r]) * ratio
                optimizers[r].step()
                moved[r] = flattened(parameters[r])
            return moved

        return step


def class_of(made: object) -> type[Optimizer]:
    """Return the optimizer class behind a class or a partial; Optimizer itself where there is none."""
    while isinstance(made, functools.partial):
        made = cast("functools.partial[Any]", made).func
    return made if isinstance(made, type) and issubclass(made, Optimizer) else Optimizer


def equations(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """Return A and b, or None where the labels of a separable loss are no targets."""
    return None if problem.separable_loss else (problem.A, problem.b)


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return all parameters, in order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def no_parameters_alone(error: Exception) -> InvalidArgument:
    """Return the error that an optimizer cannot be made from parameters alone."""
    return InvalidArgument(
        "an optimizer must be made from parameters alone",
        got=str(error),
        remedy="Fix the other arguments with functools.partial.",
    )


def scheduled(optimizer: Optimizer) -> bool:
    """Return whether one of torch's schedulers of learning rates is attached, which leaves that trace."""
    return any("initial_lr" in group for group in optimizer.param_groups)


def _moves_on(state: Mapping[str, Any]) -> bool:
    buffer = state.get("momentum_buffer")
    return isinstance(buffer, Tensor) and bool(buffer.any())


def coasting_limit(problem: Problem, optimizer: Optimizer, rates: Tensor, rule: LinearRule) -> Limit:
    """Return the limit of a linear rule, from where the momentum buffers of the optimizer carry theta.

    Args:
        problem: The problem, with theta0 where theta is now.
        optimizer: With the buffers of torch's SGD.
        rates: n step sizes, one for each number.
        rule: The rule by which the optimizer steps.
    """
    under_way = _coasting(optimizer, rates)
    if under_way is None:
        return linear_limit(problem, rule)
    limit = linear_limit(replace(problem, theta0=problem.theta0 - under_way), rule)
    if not isinstance(limit, Affine):
        return limit
    return limit.because(
        f"{limit.reason} The momentum that is already under way carries theta on, so theta0 counts as the "
        f"point to which it would coast at the present learning rate."
    )


def _coasting(optimizer: Optimizer, rates: Tensor) -> Tensor | None:
    """Return the displacement that the present momentum buffers cause, rate mu / (1 - mu) each, or None without any.

    Args:
        optimizer: With the buffers of torch's SGD.
        rates: n step sizes, one for each number.
    """
    parts, any_buffer = [], False
    for group in optimizer.param_groups:
        momentum = float(group["momentum"])
        factor = momentum / (1 - momentum) * (momentum if group["nesterov"] else 1.0)
        for p in group["params"]:
            buffer = optimizer.state.get(p, {}).get("momentum_buffer")
            any_buffer |= buffer is not None and momentum > 0
            part = torch.zeros_like(p) if buffer is None else buffer * factor
            parts.append(part.detach().to("cpu", torch.float64).flatten())
    return torch.cat(parts) * rates if any_buffer else None


def write(parameters: list[Tensor], theta: Tensor, gradient: Tensor, sparse: bool = False) -> None:
    """Set parameters and their gradients from flat vectors."""
    at = 0
    with torch.no_grad():
        for p in parameters:
            part = slice(at, at + p.numel())
            p.copy_(theta[part].reshape(p.shape))
            dense = gradient[part].reshape(p.shape).to(p)
            p.grad = dense.to_sparse() if sparse else dense
            at += p.numel()


def flattened(parameters: list[Tensor]) -> Tensor:
    """Return the parameters as one vector."""
    return torch.cat([p.detach().to("cpu", torch.float64).flatten() for p in parameters])


def _hooked(optimizer: Optimizer) -> str:
    hooks = [name for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks") if getattr(optimizer, name)]
    if hooks:
        return "step hooks"
    if any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters_of(optimizer)):
        return "parameters with hooks on their gradients"
    own = vars(optimizer).get("step")  # a scheduler of learning rates wraps it, too
    return "a step of its own" if own is not None and not hasattr(own, "_wrapped_by_lr_sched") else ""


def _copied(optimizer: Optimizer, fresh: bool) -> Optimizer:
    copied = copy.deepcopy(optimizer)
    if fresh:
        copied.state.clear()
    for group in copied.param_groups:
        group.update({name: False for name in ("capturable", "differentiable") if name in group})
    if isinstance(copied, torch.optim.LBFGS):  # which keeps its parameters a second time, and not in its state
        copied._params, copied._numel_cache = copied.param_groups[0]["params"], None
    return copied


def _ratios(optimizer: Optimizer) -> list[float]:
    rates = [float(group.get("lr", 1.0)) for group in optimizer.param_groups]
    largest = max(rates)
    return [rate / largest if largest > 0 else 1.0 for rate in rates]
