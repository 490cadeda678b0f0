"""What the options of `SteepestDescent` may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from steepest.errors import InvalidArgument, UnknownName
from steepest.norms import Blockwise, Norm

__all__ = ["Mode", "Nonfinite", "check_group", "check_names", "check_nonfinite", "refuse", "refuse_fixed"]

Mode = Literal["penalized", "constrained"]
Nonfinite = Literal["raise", "skip", "ignore"]

_TORCH_OPTIONS = {
    "foreach": "Leave it out: small tensors are always taken together.",
    "fused": "Leave it out; torch.compile(optimizer.step) fuses.",
    "capturable": 'Leave it out: with nonfinite="ignore" and a tensor as lr a step can be captured.',
    "differentiable": "Write it with steepest.norms.penalized_step; autograd follows all but the polar factor.",
}


def refuse(options: Mapping[str, object], known: list[str]) -> None:
    """Raise InvalidArgument for the first option that is torch's but not ours, UnknownName for one that is neither."""
    for name, value in options.items():
        if name in _TORCH_OPTIONS:
            raise InvalidArgument(f"{name} is not an option here", got=value, remedy=_TORCH_OPTIONS[name])
        raise UnknownName.among("option", name, known)


def refuse_fixed(optimizer: str, options: Mapping[str, object], fixed: tuple[str, ...]) -> None:
    """Raise InvalidArgument for the first option that the optimizer decides itself."""
    for name in fixed:
        if name in options:
            raise InvalidArgument(
                f"{optimizer} has no option {name}", got=options[name], remedy="Leave it out, or use SteepestDescent."
            )


def check_nonfinite(nonfinite: str) -> None:
    """Raise InvalidArgument unless it is one of the three."""
    if nonfinite not in ("raise", "skip", "ignore"):
        raise InvalidArgument(
            'nonfinite must be "raise", "skip" or "ignore"', got=nonfinite, remedy="Choose one of them."
        )


def check_group(options: Mapping[str, Any]) -> None:
    """Raise InvalidArgument if an option of a group is outside its range."""
    for name in _TORCH_OPTIONS:
        if options.get(name):
            refuse({name: options[name]}, [])
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
        if isinstance(options[name], Tensor) and options[name].numel() != 1:
            raise InvalidArgument(
                f"Tensor {name} must be 1-element", got=tuple(options[name].shape), remedy="Pass torch.tensor(0.1)."
            )
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


def check_names(group: Mapping[str, Any]) -> None:
    """Raise InvalidArgument unless a network's norm has a block for every parameter of its group, and no other."""
    norm = group["norm"]
    if not isinstance(norm, Blockwise):
        return
    if "param_names" not in group:
        raise InvalidArgument(
            "a Blockwise norm finds its parameters by name",
            got="parameters without names",
            remedy="Pass model.named_parameters().",
        )
    names = list(group["param_names"])
    for block in norm.norms:
        if block not in names:
            raise UnknownName.among("parameter of this norm's block", block, names)
    for name in names:
        if name not in norm.norms:
            raise UnknownName.among("block for this parameter in the norm", name, norm.norms)
