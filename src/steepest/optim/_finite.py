"""Gradients with NaN or infinity, found before a step changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steepest._sharding import local, over_all_processes
from steepest.errors import InvalidArgument

__all__ = ["are_finite", "check_dense", "nonfinite_parameters"]


def check_dense(parameters: Sequence[Tensor]) -> None:
    """Raise InvalidArgument for a sparse gradient."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.layout != torch.strided:
            raise InvalidArgument(
                "gradients must be dense",
                got=f"a gradient of layout {parameter.grad.layout}",
                remedy="Use sparse=False in the embedding.",
            )


def are_finite(parameters: Sequence[Tensor]) -> bool:
    """Return whether all entries of all gradients are; all processes that share a parameter return the same.

    One number leaves each device.
    """
    alike: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            key = (parameter.device, getattr(parameter, "device_mesh", None))
            alike.setdefault(key, []).append(parameter)
    return all([_are_finite(members) for members in alike.values()])  # noqa: C419 - every process asks for every mesh


def _are_finite(parameters: list[Tensor]) -> bool:
    """Check gradients on one device and, where they are sharded, of one mesh."""
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    held = [g for g in gradients if g.numel()]
    none = torch.zeros((), device=gradients[0].device)
    # A finite 2-norm proves finite entries, and is the fastest to take; an infinite one may just have overflowed.
    for order in (2, float("inf")):
        bad = none + (~torch.stack(torch._foreach_norm(held, order)).isfinite()).sum() if held else none
        if not bool(over_all_processes(bad, parameters[0])):
            return True
    return False


def nonfinite_parameters(param_groups: list[dict[str, Any]]) -> list[str]:
    """Return the names, or the positions, of the parameters whose gradient holds NaN or infinity."""
    names: list[str] = []
    for i, group in enumerate(param_groups):
        for j, parameter in enumerate(group["params"]):
            if parameter.grad is not None and not are_finite([parameter]):
                names.append(group["param_names"][j] if "param_names" in group else f"parameter {j} of group {i}")
    return names
