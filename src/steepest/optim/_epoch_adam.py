"""Adam's preconditioner without its moving averages: one diagonal per epoch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from steepest._check import at_least, function, in_range
from steepest._schedules import inverse_square_root
from steepest._sharding import local
from steepest.errors import InvalidArgument
from steepest.norms import L2
from steepest.optim._options import group_of, refuse_fixed
from steepest.optim._steepest_descent import SteepestDescent

__all__ = ["EpochAdam"]


class EpochAdam(SteepestDescent):
    """Gradient descent preconditioned by the root mean square of the gradients of an epoch, with vanishing steps.

        u = -lr schedule(t) g / sqrt(v),      v = the mean of g^2 over the latest complete epoch,

    the penalized step in the `Ellipsoid` of 1 / sqrt(v), t = 0, 1, ... counting steps. The epoch that the step
    completes counts, so that with one step an epoch v = g^2 and u = -lr schedule(t) sign(g); in the first epoch v is
    the mean so far. There is no eps: an entry whose v is 0 does not move. Constant steps end in a cycle of two points,
    hence the default schedule; with an eps, theta would drift away from the limit of vanishing steps. This optimizer
    trains models; the rule whose limit is known by theory is `steepest.implicit_bias.EpochAdam`.

    Args:
        params: Parameters, named parameters or group dicts.
        lr: The factor of all steps, >= 0.
        steps_per_epoch: The number of steps per epoch, >= 1.
        schedule: schedule(t) -> the factor of step t, finite and >= 0.
        **options: weight_decay, maximize and nonfinite of `SteepestDescent`.

    Raises:
        InvalidArgument: If steps_per_epoch is below 1, for another norm, mode or momentum, or if the schedule returns
            an invalid factor; else as `SteepestDescent`.

    >>> theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    >>> optimizer = EpochAdam([theta], lr=0.2)
    >>> for _ in range(300):
    ...     optimizer.zero_grad()
    ...     ((theta * torch.tensor([1.0, 0.1, 0.01])).sum() - 1).square().backward()
    ...     optimizer.step()
    >>> theta.data.sub(1 / 1.11).abs().max() < 0.02
    tensor(True)

    Source: EECS 182 (UC Berkeley, Fall 2025), homework 2, the "simplified Adam".
    """

    _kept: ClassVar[frozenset[str]] = frozenset({"step", "root_so_far", "root_mean_square"})
    _fixed: ClassVar[tuple[str, ...]] = ("mode", "momentum", "nesterov")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        steps_per_epoch: int = 1,
        schedule: Callable[[int], float] = inverse_square_root,
        **options: Any,
    ) -> None:
        remedy = "Pass len(loader) or 1 for full batches."
        self.steps_per_epoch = at_least("steps_per_epoch", steps_per_epoch, 1, remedy=remedy)
        self.schedule = _checked(schedule)
        refuse_fixed("EpochAdam", options, ("norm", *self._fixed))
        super().__init__(params, L2(), lr, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        return {**super().__getstate__(), "steps_per_epoch": self.steps_per_epoch, "schedule": self.schedule}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Raises:
            InvalidArgument: If the group has a norm, mode or momentum; else as `SteepestDescent`.
        """
        group = group_of(param_group)
        refuse_fixed("EpochAdam", group, ("norm", *self._fixed))
        super().add_param_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        for parameter, gradient in zip(parameters, self._gradients(parameters, group), strict=True):
            t = int(self.state[parameter].get("step", 0))
            factor = self.schedule(t)
            if not (type(factor) is float and 0 <= factor < math.inf):
                factor = in_range(f"schedule({t})", factor, "[0, inf)", remedy="Try the default, 1 / sqrt(t + 1).")
            root = self._root_mean_square(t, parameter, gradient)
            step = (gradient / root).masked_fill_(root == 0, 0)
            self._move([parameter], [step], -factor, group)

    def _root_mean_square(self, t: int, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Count the gradient of step t; return the root of the mean square to divide by.

        Roots are kept and not squares, whose range is half of the dtype's, and means and not sums.
        """
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64)
            for name in ("root_so_far", "root_mean_square"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        so_far, latest = local(state["root_so_far"]), local(state["root_mean_square"])
        state["step"] += 1
        counted = t % self.steps_per_epoch + 1
        if counted == 1:
            torch.abs(gradient, out=so_far)
        else:
            kept, new = math.sqrt((counted - 1) / counted), math.sqrt(1 / counted)
            wide = torch.promote_types(so_far.dtype, torch.float32)
            so_far.copy_(torch.hypot(so_far.to(wide).mul_(kept), gradient.to(wide) * new))
        if counted == self.steps_per_epoch or t < self.steps_per_epoch:
            latest.copy_(so_far)
        return latest


def _checked(schedule: Any) -> Callable[[int], float]:
    """Return a schedule that can be called with a step, or raise InvalidArgument."""
    remedy = "Pass a function of the step."
    function("schedule", None if isinstance(schedule, nn.Module) else schedule, remedy=remedy)
    try:
        inspect.signature(schedule).bind(0)
    except TypeError as error:
        raise InvalidArgument("schedule must be a function of one argument", got=schedule, remedy=remedy) from error
    except ValueError:  # one of C has no signature
        pass
    return schedule
