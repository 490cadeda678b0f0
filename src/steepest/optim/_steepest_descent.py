"""The optimizer of this house: steepest descent in any norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from steepest.errors import InvalidArgument, NonFiniteGradient
from steepest.norms import Norm, constrained_steps, penalized_step

__all__ = ["Mode", "SteepestDescent"]

Mode = Literal["penalized", "constrained"]

# Up to so many entries a call costs more than its arithmetic.
_SMALL = 2**16


class SteepestDescent(Optimizer):
    """Steepest descent in a norm, each parameter by itself.

    With the momentum buffer m <- momentum m + g (the first is g, as in torch's SGD) and
    v = m (v = g + momentum m with Nesterov), a step is theta <- theta + u with

        penalized:    u = argmin <v, u> + ||u||^2 / (2 lr) = -lr ||v||_* d(v)
        constrained:  u = argmin <v, u> over ||u|| <= lr   = -lr d(v)

    so that `SteepestDescent(params, L2(), lr)` is SGD. Weight decay is decoupled:
    theta <- (1 - lr weight_decay) theta before the step, only where there is a gradient.
    `p.grad` is never changed.

    Args:
        params: Parameters, named parameters or group dicts, as in torch.
        norm: The norm of every parameter; a group's own `norm` comes first.
        lr: Learning rate (half of the penalty's alpha) or radius, >= 0.
        mode: "penalized" or "constrained"; a group option like `norm`.
        momentum: In [0, 1).
        nesterov: Look one step ahead; needs momentum.
        weight_decay: Decoupled decay, >= 0.
        maximize: Step uphill.
        nonfinite: What a NaN or infinite gradient does: "raise", or "skip" the whole step.

    Raises:
        InvalidArgument: At construction, for an option outside its range, a missing norm, or a complex
            parameter; in a step, for a sparse gradient.
        NonFiniteGradient: In a step, before anything has changed.

    >>> from steepest.norms import LInf
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, -4.0])
    >>> SteepestDescent([w], LInf(), lr=0.1, mode="constrained").step()
    >>> w.data
    tensor([-0.1000,  0.1000])

    Source: Bernstein and Newhouse, "Old Optimizer, New Norm: An Anthology" (2024).
    """

    def __init__(
        self,
        params: ParamsT,
        norm: Norm | None = None,
        lr: float | Tensor = 1e-3,
        *,
        mode: Mode = "penalized",
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        nonfinite: Literal["raise", "skip"] = "raise",
    ) -> None:
        if nonfinite not in ("raise", "skip"):
            raise InvalidArgument('nonfinite must be "raise" or "skip"', got=nonfinite, remedy="Choose one of them.")
        self.nonfinite = nonfinite
        options: dict[str, Any] = {
            "norm": norm,
            "lr": lr,
            "mode": mode,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs; torch's own leaves `nonfinite` out."""
        return {**super().__getstate__(), "nonfinite": self.nonfinite}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see `torch.optim.Optimizer.add_param_group`.

        Raises:
            InvalidArgument: If an option of the group is outside its range or no norm is given.
        """
        _check_options({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for i, parameter in enumerate(self.param_groups[-1]["params"]):
            if parameter.is_complex():
                self.param_groups.pop()
                raise InvalidArgument(
                    "parameters must be real", got=f"complex parameter {i}", remedy="View it as real numbers."
                )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; returns the closure's loss where there is a closure.

        Raises:
            NonFiniteGradient: If a gradient holds NaN or infinity and `nonfinite="raise"`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._gradients_are_finite():
            for group in self.param_groups:
                self._update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        small = [parameter for parameter in parameters if parameter.numel() <= _SMALL]
        # Small tensors together, where calls cost most; large ones one at a time, so that memory stays flat and warm.
        self._update_together(small, group)
        for parameter in parameters:
            if parameter.numel() > _SMALL:
                self._update_together([parameter], group)

    def _update_together(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        lr = float(group["lr"])
        vs = [self._momentum(parameter, group) for parameter in parameters]
        for parameter, u in zip(parameters, _steps(group["norm"], vs, lr, group["mode"]), strict=True):
            if group["weight_decay"]:
                parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(u)

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the gradient to follow, and move the momentum buffer."""
        gradient = cast(Tensor, parameter.grad)
        if group["maximize"]:
            gradient = -gradient
        momentum = group["momentum"]
        if not momentum:
            return gradient
        buffer = self.state[parameter].get("momentum_buffer")
        if buffer is None:
            buffer = self.state[parameter]["momentum_buffer"] = gradient.clone()
        else:
            buffer.mul_(momentum).add_(gradient)
        return gradient.add(buffer, alpha=momentum) if group["nesterov"] else buffer

    def _gradients_are_finite(self) -> bool:
        """Look at all gradients at once, before anything changes: one number leaves each device."""
        gradients: dict[torch.device, list[Tensor]] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or not parameter.grad.numel():
                    continue
                if parameter.grad.layout != torch.strided:
                    raise InvalidArgument(
                        "gradients must be dense",
                        got=f"a gradient of layout {parameter.grad.layout}",
                        remedy="Use sparse=False in the embedding.",
                    )
                gradients.setdefault(parameter.device, []).append(parameter.grad)
        # A finite 2-norm proves finite entries, and is the fastest to take; an infinite one may just have overflowed.
        finite = any(
            all(bool(torch.stack(torch._foreach_norm(g, order)).isfinite().all()) for g in gradients.values())
            for order in (2, float("inf"))
        )
        if not finite and self.nonfinite == "raise":
            raise NonFiniteGradient(
                "gradients must be finite",
                got=f"NaN or infinity in {', '.join(self._nonfinite_parameters())}",
                remedy='Lower lr, clip the gradients, or pass nonfinite="skip".',
            )
        return finite

    def _nonfinite_parameters(self) -> list[str]:
        return [
            group["param_names"][j] if "param_names" in group else f"parameter {j} of group {i}"
            for i, group in enumerate(self.param_groups)
            for j, parameter in enumerate(group["params"])
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the norms, so that `torch.load(weights_only=True)` takes it."""
        state = super().state_dict()
        for group in state["param_groups"]:
            del group["norm"]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the norms stay those that this optimizer was made with."""
        saved = state_dict["param_groups"]
        # Where the numbers of groups differ, torch itself says so.
        groups = [{**old, "norm": now["norm"]} for old, now in zip(saved, self.param_groups, strict=False)]
        super().load_state_dict({**state_dict, "param_groups": groups + saved[len(groups) :]})


def _steps(norm: Norm, vs: list[Tensor], lr: float, mode: Mode) -> list[Tensor]:
    """Return the step of every tensor by itself; the update rule as a pure function."""
    if mode == "constrained":
        return constrained_steps(norm, vs, radius=lr)
    return [penalized_step(norm, v, alpha=2 * lr) for v in vs]


def _check_options(options: dict[str, Any]) -> None:
    if not isinstance(options["norm"], Norm):
        raise InvalidArgument(
            "every parameter group needs a norm",
            got=options["norm"],
            remedy="Pass norm=, for example steepest.norms.L2(), to the optimizer or in the group.",
        )
    if options["mode"] not in ("penalized", "constrained"):
        raise InvalidArgument(
            'mode must be "penalized" or "constrained"', got=options["mode"], remedy="Choose one of them."
        )
    for name in ("lr", "weight_decay", "momentum"):
        if not isinstance(options[name], (int, float, Tensor)):
            raise InvalidArgument(f"{name} must be a number", got=options[name], remedy="Pass a float.")
    for name in ("lr", "weight_decay"):
        value = float(options[name])
        if not (math.isfinite(value) and value >= 0):
            raise InvalidArgument(f"{name} must be a finite number >= 0", got=value, remedy=f"Pass {name} >= 0.")
    if not 0 <= options["momentum"] < 1:
        raise InvalidArgument("momentum must lie in [0, 1)", got=options["momentum"], remedy="Try 0.9, or 0 for none.")
    if options["nesterov"] and not options["momentum"]:
        raise InvalidArgument(
            "nesterov needs momentum", got="momentum=0", remedy="Pass momentum=0.9 or leave nesterov out."
        )
