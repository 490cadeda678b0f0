"""Torch's optimizers as rules: what theory says of each, and their own code for the simulation."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from steepest.errors import InvalidArgument
from steepest.implicit_bias._limits.affine import Affine
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.linear import LinearRule, linear_limit
from steepest.implicit_bias._losses import gradient_at, loss_at
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.rule import Gradient, Rule, Step, inverse_square
from steepest.implicit_bias._rules.sign_descent import sign_scale

__all__ = ["RuleLike", "TorchOptimizer", "as_rule"]

RuleLike = Rule | type[Optimizer] | Callable[..., Optimizer] | Optimizer
"""A rule of this package, or a torch optimizer: its class, a functools.partial of it, or a live instance."""

_NOT_DETERMINED: dict[type[Optimizer], str] = {
    torch.optim.Adam: "Adam's second moments follow the path, its constant steps need not come to rest, and its eps "
    "makes theta drift along the solutions",
    torch.optim.AdamW: "without its weight decay it is Adam, whose second moments follow the path and whose eps drifts",
    torch.optim.NAdam: "its second moments follow the path, and its eps makes theta drift along the solutions",
    torch.optim.RAdam: "it goes over from momentum to Adam's second moments on the way, and its eps makes theta drift",
    torch.optim.Adamax: "its largest gradients follow the path, and its eps makes theta drift along the solutions",
    torch.optim.RMSprop: "its second moments follow the path, its constant steps do not come to rest, and its eps "
    "makes theta drift along the solutions",
    torch.optim.Adagrad: "its accumulated squares depend on the step size and on the first steps (Qian and Qian "
    "2019, The Implicit Bias of AdaGrad on Separable Data)",
    torch.optim.Adadelta: "its two running averages follow the path",
    torch.optim.Adafactor: "its second moments follow the path and its step length is the root mean square of theta",
    torch.optim.Rprop: "each coordinate's step length follows the signs it has met on the way",
    torch.optim.ASGD: "its lambd pulls theta to 0 and its steps decay on the way",
    torch.optim.SparseAdam: "it is Adam on the coordinates met, whose second moments follow the path",
}


@dataclass(frozen=True, eq=False)
class TorchOptimizer(Rule):
    """A torch optimizer; its learning rate is the schedule's step, or its own where a claim depends on it.

    Attributes:
        made: What makes it from parameters, or a live one.
    """

    made: Callable[..., Optimizer] | Optimizer

    @property
    def kind(self) -> type[Optimizer]:
        """The optimizer's class."""
        return type(self.made) if isinstance(self.made, Optimizer) else _class_of(self.made)

    @property
    def needs_vanishing_steps(self) -> bool:
        """Whether steps do not shrink with the gradient: everything but SGD, LBFGS and ASGD."""
        return self.kind not in (torch.optim.SGD, torch.optim.LBFGS, torch.optim.ASGD)

    def start(self, n: int) -> Tensor | None:
        """Return a live optimizer's parameters.

        Raises:
            InvalidArgument: If they are not n numbers.
        """
        if not isinstance(self.made, Optimizer):
            return None
        if any(p.is_complex() for p in _parameters(self.made)):
            raise InvalidArgument(
                "a live optimizer must hold real numbers", got="complex parameters", remedy="Split them."
            )
        flat = [p.detach().to("cpu", torch.float64).flatten() for p in _parameters(self.made)]
        theta = torch.cat(flat) if flat else torch.zeros(0)
        if len(theta) != n:
            raise InvalidArgument(
                f"a live optimizer must hold {n} numbers, as A has columns",
                got=len(theta),
                remedy="Pass its class, or the columns of all its parameters, flattened in order.",
            )
        return theta

    def limit(self, problem: Problem) -> Limit:
        """Return what theory says of this optimizer with these options."""
        optimizer = self._optimizer(problem.columns)
        where = None if problem.separable_loss else (problem.A, problem.b)
        name = f"torch.optim.{self.kind.__name__}"
        if isinstance(self.made, Optimizer) and (hooked := _hooked(self.made)):
            return Unknown(f"{name} has {hooked}, which may move theta in any way.", where)
        for group in optimizer.param_groups:
            if any(p.dtype not in (torch.float32, torch.float64) for p in group["params"]):
                return Unknown(f"{name}'s parameters are too coarse to hold a limit.", where)
            if group.get("maximize"):
                return Unknown(f"{name} with maximize=True climbs the loss.", where)
            if not all(p.requires_grad for p in group["params"]):
                return Unknown(f"{name} holds parameters that require no gradient, and do not move.", where)
            if group.get("weight_decay", 0) != 0:
                return Unknown(
                    f"{name}'s weight decay of {float(group['weight_decay']):g} pulls theta to 0 for as long as it "
                    f"runs: it ends near a ridge solution, which depends on how the loss is scaled, and solves no "
                    f"equation.",
                    where,
                )
        if self.kind is torch.optim.SGD:
            return self._sgd(problem, optimizer)
        if self.kind is torch.optim.LBFGS:
            return self._lbfgs(problem, optimizer)
        if self.kind is torch.optim.Muon:
            why = "its steps have the singular values of a polar factor, and a constant step does not come to rest"
        else:
            why = _NOT_DETERMINED.get(self.kind, "nothing is known here of where it ends")
        return Unknown(f"{name}: {why}.", where)

    def _sgd(self, problem: Problem, optimizer: Optimizer) -> Limit:
        options = {(float(g["momentum"]), float(g["dampening"]), bool(g["nesterov"])) for g in optimizer.param_groups}
        rates = [float(g["lr"]) for g in optimizer.param_groups]
        where = None if problem.separable_loss else (problem.A, problem.b)
        if len(options) > 1:
            return Unknown("torch.optim.SGD with a different momentum in each group is no fixed preconditioner.", where)
        ((momentum, dampening, nesterov),) = options
        if not 0 < max(rates) < float("inf") or not min(rates) >= 0:
            return Unknown("torch.optim.SGD with a learning rate that is 0 or not finite ends nowhere.", where)
        if not (0 <= momentum < 1 and (momentum == 0 or dampening < 1)):
            return Unknown(
                f"torch.optim.SGD with momentum {momentum:g}, dampening {dampening:g} does not settle.", where
            )
        root = None
        if len(set(rates)) > 1:
            sizes = [sum(p.numel() for p in g["params"]) for g in optimizer.param_groups]
            root = torch.repeat_interleave(torch.tensor(rates, dtype=torch.float64), torch.tensor(sizes)).sqrt()
        coasting = _coasting(optimizer, momentum, nesterov)
        if coasting is not None:
            problem = replace(problem, theta0=problem.theta0 - coasting)
        name = "torch.optim.SGD" + (f" with momentum {momentum:g}" if momentum else "")
        limit = linear_limit(problem, LinearRule(root, nesterov, False, False, name))
        if coasting is not None and isinstance(limit, Affine):
            return limit.because(
                f"{limit.reason} The momentum that is already under way carries theta on, so theta0 counts as the "
                f"point to which it would coast at the present learning rate."
            )
        return limit

    def _lbfgs(self, problem: Problem, optimizer: Optimizer) -> Limit:
        where = None if problem.separable_loss else (problem.A, problem.b)
        if problem.separable_loss:
            return Unknown("torch.optim.LBFGS: on separable data its direction is not known.", where)
        group = optimizer.param_groups[0]
        if not (
            0 < float(group["lr"]) < float("inf")
            and group["max_iter"] > 0
            and group["max_eval"] > 0
            and group["history_size"] > 0
        ):
            return Unknown("torch.optim.LBFGS that takes no steps does not move.", where)
        if optimizer.state:
            return Unknown("torch.optim.LBFGS: directions from its past may lie outside of the row space.", where)
        limit = linear_limit(problem, LinearRule(None, False, False, False, "torch.optim.LBFGS"))
        if isinstance(limit, Affine):
            return limit.because(
                "torch.optim.LBFGS moves theta by combinations of gradients, which lie in range(A'), and the one "
                "point of theta0 + range(A') with the smallest loss is the limit, if it converges; tolerance_grad and "
                "tolerance_change may stop it short of that (docs/implicit_bias.md, 10)."
            )
        return limit

    def _optimizer(self, n: int) -> Optimizer:
        """Return an optimizer over n numbers: a new one, or a copy of the live one with its state."""
        if isinstance(self.made, Optimizer):
            self.start(n)
            return _copied(self.made)
        shape = (1, n) if self.kind is torch.optim.Muon else (n,)
        try:
            made = self.made([torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))])
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidArgument(
                "an optimizer must be made from parameters alone",
                got=str(error),
                remedy="Fix the other arguments with functools.partial.",
            ) from error
        if made.param_groups[0].get("history_size", 1) < 1:
            raise InvalidArgument("LBFGS must keep at least one step", got="history_size=0", remedy="Pass 10.")
        return made

    def step(self, problem: Problem, runs: int) -> Step:
        """Return the steps of one optimizer a run, each with its own learning rate."""
        optimizers = [self._optimizer(problem.columns) for _ in range(runs)]
        parameters = [_parameters(optimizer) for optimizer in optimizers]
        # A live optimizer's groups keep the ratios of their learning rates.
        ratios = [_ratios(optimizer) for optimizer in optimizers]

        def step(theta: Tensor, gradient: Gradient, size: Tensor, _t: int) -> Tensor:
            if self.kind is torch.optim.LBFGS:
                return torch.stack(
                    [
                        _with_closure(optimizers[r], parameters[r], theta[r], problem, float(size[r]))
                        for r in range(runs)
                    ]
                )
            moved = torch.empty_like(theta)
            for r, g in enumerate(gradient(theta)):
                _write(parameters[r], theta[r], g, sparse=self.kind is torch.optim.SparseAdam)
                for group, ratio in zip(optimizers[r].param_groups, ratios[r], strict=True):
                    group["lr"] = float(size[r]) * ratio
                optimizers[r].step()
                moved[r] = _read(parameters[r])
            return moved

        return step

    def scale(self, problem: Problem) -> float:
        """Return 1 / the largest eigenvalue of A'A for SGD and LBFGS, the length of one crossing for the others."""
        if self.needs_vanishing_steps:
            return sign_scale(problem)
        if self.kind is torch.optim.LBFGS:
            return 1.0
        momentum = max(float(g.get("momentum", 0)) for g in self._optimizer(problem.columns).param_groups)
        return (1 - momentum) * (4 if problem.loss == "logistic" else 1) * inverse_square(problem.A)


def as_rule(rule: object) -> Rule:
    """Return a rule of this package as it is, a torch optimizer as one.

    Raises:
        InvalidArgument: For anything else.
    """
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, Optimizer) or _class_of(rule) is not Optimizer:
        return TorchOptimizer(cast("Optimizer", rule))
    remedy = "Call it, as in GradientDescent()." if isinstance(rule, type) and issubclass(rule, Rule) else ""
    raise InvalidArgument(
        "rule must be one of steepest.implicit_bias, or a torch optimizer (class, functools.partial or instance)",
        got=rule,
        remedy=remedy or "See the names in steepest.implicit_bias.",
    )


def _class_of(made: object) -> type[Optimizer]:
    """Return the optimizer class behind a class or a partial; Optimizer itself where there is none."""
    while isinstance(made, functools.partial):
        made = cast("functools.partial[Any]", made).func
    return made if isinstance(made, type) and issubclass(made, Optimizer) else Optimizer


def _hooked(optimizer: Optimizer) -> str:
    hooks = [name for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks") if getattr(optimizer, name)]
    return "step hooks" if hooks else ""


def _copied(optimizer: Optimizer) -> Optimizer:
    copied = copy.deepcopy(optimizer)
    for group in copied.param_groups:
        group.update({name: False for name in ("capturable", "differentiable") if name in group})
    if isinstance(copied, torch.optim.LBFGS):  # which keeps its parameters a second time, and not in its state
        copied._params, copied._numel_cache = copied.param_groups[0]["params"], None
    return copied


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _ratios(optimizer: Optimizer) -> list[float]:
    rates = [float(group.get("lr", 1.0)) for group in optimizer.param_groups]
    largest = max(rates)
    return [rate / largest if largest > 0 else 1.0 for rate in rates]


def _coasting(optimizer: Optimizer, momentum: float, nesterov: bool) -> Tensor | None:
    """Return the way that SGD's present momentum buffers go on, lr mu / (1 - mu) each, or None where there are none."""
    parts, any_buffer = [], False
    for group in optimizer.param_groups:
        factor = float(group["lr"]) * momentum / (1 - momentum) * (momentum if nesterov else 1.0)
        for p in group["params"]:
            buffer = optimizer.state.get(p, {}).get("momentum_buffer")
            any_buffer |= buffer is not None
            part = torch.zeros_like(p) if buffer is None else buffer * factor
            parts.append(part.detach().to("cpu", torch.float64).flatten())
    return torch.cat(parts) if any_buffer and momentum > 0 else None


def _write(parameters: list[Tensor], theta: Tensor, gradient: Tensor, sparse: bool = False) -> None:
    at = 0
    with torch.no_grad():
        for p in parameters:
            part = slice(at, at + p.numel())
            p.copy_(theta[part].reshape(p.shape))
            dense = gradient[part].reshape(p.shape).to(p)
            p.grad = dense.to_sparse() if sparse else dense
            at += p.numel()


def _read(parameters: list[Tensor]) -> Tensor:
    return torch.cat([p.detach().to("cpu", torch.float64).flatten() for p in parameters])


def _with_closure(
    optimizer: Optimizer, parameters: list[Tensor], theta: Tensor, problem: Problem, size: float
) -> Tensor:
    """Take a step of an optimizer that asks for losses and gradients itself."""
    for group in optimizer.param_groups:
        group["lr"] = size
    _write(parameters, theta, torch.zeros_like(theta))

    def closure() -> float:
        here = _read(parameters)
        _write(parameters, here, gradient_at(problem, here[None])[0])
        return float(loss_at(problem, here))

    optimizer.step(closure)
    return _read(parameters)
