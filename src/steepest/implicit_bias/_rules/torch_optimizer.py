"""Torch's optimizers as rules: the theory of each, and their own code for the simulation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from steepest.errors import InvalidArgument
from steepest.implicit_bias import _sources as sources
from steepest.implicit_bias._limits.affine import Affine
from steepest.implicit_bias._limits.limit import Limit, Unknown
from steepest.implicit_bias._limits.linear import LinearRule, linear_limit
from steepest.implicit_bias._losses import gradient_at, loss_at
from steepest.implicit_bias._problem import Problem
from steepest.implicit_bias._rules.optimizer import (
    OptimizerRule,
    coasting_limit,
    equations,
    flattened,
    parameters_of,
    write,
)
from steepest.implicit_bias._rules.rule import Gradient, Step, inverse_square
from steepest.implicit_bias._rules.sign_descent import sign_scale

__all__ = ["TorchOptimizer"]

_NOT_DETERMINED: dict[type[Optimizer], str] = {
    torch.optim.Adam: "Adam's second moments depend on the path, its constant steps need not come to rest, and its eps "
    "makes theta drift along the solutions",
    torch.optim.AdamW: "without its weight decay it is Adam, whose second moments depend on the path, and whose eps "
    "makes theta drift",
    torch.optim.NAdam: "its second moments depend on the path, and its eps makes theta drift along the solutions",
    torch.optim.RAdam: "it switches from momentum to Adam's second moments during the run, and its eps makes "
    "theta drift",
    torch.optim.Adamax: "its largest gradients depend on the path, and its eps makes theta drift along the solutions",
    torch.optim.RMSprop: "its second moments depend on the path, its constant steps do not come to rest, and its eps "
    "makes theta drift along the solutions",
    torch.optim.Adagrad: f"its accumulated squares depend on the step size and on the first steps ({sources.ADAGRAD})",
    torch.optim.Adadelta: "its two running averages depend on the path",
    torch.optim.Adafactor: "its second moments depend on the path and its step length is the root mean square of theta",
    torch.optim.Rprop: "each coordinate's step length depends on the signs of earlier gradients",
    torch.optim.ASGD: "its lambd pulls theta to 0 and its steps decay during the run",
    torch.optim.SparseAdam: "it is Adam on the coordinates with gradients, whose second moments depend on the path",
}


class TorchOptimizer(OptimizerRule):
    """One of torch's own optimizers, or a user's, of which nothing is known."""

    @property
    def name(self) -> str:
        """Its name in torch, or its own name."""
        return f"{'torch.optim.' if self.kind.__module__.startswith('torch.') else ''}{self.kind.__name__}"

    @property
    def needs_vanishing_steps(self) -> bool:
        """Whether steps do not shrink with the gradient: everything but SGD, LBFGS and ASGD."""
        return self.kind not in (torch.optim.SGD, torch.optim.LBFGS, torch.optim.ASGD)

    def limit_of(self, problem: Problem, optimizer: Optimizer) -> Limit:
        """Return what theory says of this optimizer with these options."""
        if self.kind is torch.optim.SGD:
            return self._sgd(problem, optimizer)
        if self.kind is torch.optim.LBFGS:
            return self._lbfgs(problem, optimizer)
        if self.kind is torch.optim.Muon:
            why = "its steps have the singular values of a polar factor, and a constant step does not come to rest"
        else:
            why = _NOT_DETERMINED.get(self.kind, "nothing is known here of where it ends")
        if problem.separable_loss and self.kind in (torch.optim.Adam, torch.optim.AdamW):
            why += (
                f"; on separable data theory knows the largest L2 margin in the long run with eps > 0 "
                f"({sources.HEAVY_BALL}), and the largest-entry margin while eps is negligible ({sources.ADAM})"
            )
        return Unknown(f"{self.name}: {why}.", equations(problem))

    def _sgd(self, problem: Problem, optimizer: Optimizer) -> Limit:
        options = {(float(g["momentum"]), float(g["dampening"]), bool(g["nesterov"])) for g in optimizer.param_groups}
        rates = [float(g["lr"]) for g in optimizer.param_groups]
        where = equations(problem)
        if len(options) > 1:
            return Unknown("torch.optim.SGD with a different momentum in each group is no fixed preconditioner.", where)
        ((momentum, dampening, nesterov),) = options
        if not 0 < max(rates) < float("inf") or not min(rates) >= 0:
            return Unknown("torch.optim.SGD with a learning rate that is 0 or not finite has no limit.", where)
        if not (0 <= momentum < 1 and (momentum == 0 or dampening < 1)):
            return Unknown(
                f"torch.optim.SGD with momentum {momentum:g}, dampening {dampening:g} does not settle.", where
            )
        sizes = [sum(p.numel() for p in g["params"]) for g in optimizer.param_groups]
        each = torch.repeat_interleave(torch.tensor(rates, dtype=torch.float64), torch.tensor(sizes))
        root = each.sqrt() if len(set(rates)) > 1 else None
        name = "torch.optim.SGD" + (f" with momentum {momentum:g}" if momentum else "")
        return coasting_limit(problem, optimizer, each, LinearRule(root, nesterov, False, False, name))

    def _lbfgs(self, problem: Problem, optimizer: Optimizer) -> Limit:
        where = equations(problem)
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
            return Unknown("torch.optim.LBFGS: directions from its history may lie outside of the row space.", where)
        limit = linear_limit(problem, LinearRule(None, False, False, False, "torch.optim.LBFGS"))
        if isinstance(limit, Affine):
            return limit.because(
                "torch.optim.LBFGS moves theta by combinations of gradients, which lie in range(A'), and the one "
                "point of theta0 + range(A') with the smallest loss is the limit, if it converges; tolerance_grad and "
                "tolerance_change may stop it short of that."
            )
        return limit

    def shapes(self, n: int) -> list[tuple[int, ...]]:
        """Return a vector's shape, for Muon a matrix's of one row."""
        return [(1, n) if self.kind is torch.optim.Muon else (n,)]

    def optimizer(self, n: int) -> Optimizer:
        """Return an optimizer over n numbers.

        Raises:
            InvalidArgument: If it cannot be made from parameters alone, or LBFGS keeps no step.
        """
        made = super().optimizer(n)
        if not isinstance(self.made, Optimizer) and made.param_groups[0].get("history_size", 1) < 1:
            raise InvalidArgument("LBFGS must keep at least one step", got="history_size=0", remedy="Pass 10.")
        return made

    def step(self, problem: Problem, runs: int) -> Step:
        """Return the steps of one optimizer per run, each with its own learning rate."""
        if self.kind is not torch.optim.LBFGS:
            return super().step(problem, runs)
        optimizers = [self.optimizer(problem.columns) for _ in range(runs)]

        def step(theta: Tensor, _gradient: Gradient, size: Tensor, _t: int) -> Tensor:
            return torch.stack([_with_closure(optimizers[r], theta[r], problem, float(size[r])) for r in range(runs)])

        return step

    def scale(self, problem: Problem) -> float:
        """Return 1 / the largest eigenvalue of A'A for SGD and LBFGS, the length of one crossing for the others."""
        if self.needs_vanishing_steps:
            return sign_scale(problem)
        if self.kind is torch.optim.LBFGS:
            return 1.0
        momentum = max(float(g.get("momentum", 0)) for g in self.optimizer(problem.columns).param_groups)
        return (1 - momentum) * (4 if problem.loss == "logistic" else 1) * inverse_square(problem.A)


def _with_closure(optimizer: Optimizer, theta: Tensor, problem: Problem, size: float) -> Tensor:
    """Take a step of an optimizer that asks for losses and gradients itself."""
    parameters = parameters_of(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = size
    write(parameters, theta, torch.zeros_like(theta))

    def closure() -> float:
        here = flattened(parameters)
        write(parameters, here, gradient_at(problem, here[None])[0])
        return float(loss_at(problem, here))

    optimizer.step(closure)
    return flattened(parameters)
