"""The update rule: momentum, then a step in the norm, then the move; functions of tensors that know no optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steepest.norms import Norm
from steepest.optim._options import Mode

__all__ = ["directions", "follow", "move"]


def follow(
    gradients: Sequence[Tensor], buffers: Sequence[Tensor] | None, momentum: float, nesterov: bool
) -> list[Tensor]:
    """Move the buffers, m <- momentum m + g in place, and return what a step follows: m, or g + momentum m (Nesterov).

    Without buffers it is g itself; gradients are not changed.
    """
    if buffers is None:
        return list(gradients)
    if len(gradients) == 1:  # in one pass
        torch.add(gradients[0], buffers[0], alpha=momentum, out=buffers[0])
    else:
        torch._foreach_mul_(list(buffers), momentum)
        torch._foreach_add_(list(buffers), list(gradients))
    if not nesterov:
        return list(buffers)
    return list(torch._foreach_add(list(gradients), list(buffers), alpha=momentum))


def directions(norm: Norm, vs: Sequence[Tensor], mode: Mode) -> tuple[list[Tensor], float]:
    """Return, for each v separately, a tensor and the factor that makes it the step for lr = 1.

    The step is -||v||_* d(v), or -d(v) if constrained; it is proportional to lr. The tensors may be the v themselves,
    and are in float32 where v in float16 may give long ones.
    """
    if mode == "constrained":
        return norm.duality_maps(vs), -1.0
    if norm.step_factor is not None:
        return list(vs), -norm.step_factor
    # The step for lr = 1 may leave the range of float16 where that for the lr does not.
    return [norm.penalized_step(v.float() if v.dtype == torch.float16 else v, 2.0) for v in vs], 1.0


def move(
    parameters: Sequence[Tensor], steps: Sequence[Tensor], factor: float, lr: float | Tensor, weight_decay: float
) -> None:
    """Shrink the parameters by 1 - lr weight_decay, and add lr factor times the steps, in place."""
    if not parameters:
        return
    targets, updates = list(parameters), list(steps)
    if weight_decay:
        torch._foreach_mul_(targets, 1 - lr * weight_decay)
    if isinstance(lr, Tensor):  # stays on its device
        torch._foreach_add_(targets, torch._foreach_mul(updates, lr * factor))
    else:
        torch._foreach_add_(targets, updates, alpha=lr * factor)
