"""What the options of `SteepestDescent` may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from steepest._check import boolean, floating, in_range, instance, one_of
from steepest.errors import InvalidArgument, UnknownName
from steepest.norms import Blockwise, Norm

__all__ = ["TORCH_OPTIONS", "Mode", "Nonfinite", "check_group", "check_members", "refuse", "refuse_fixed"]

Mode = Literal["penalized", "constrained"]
Nonfinite = Literal["raise", "skip", "ignore"]

TORCH_OPTIONS = {
    "foreach": "Leave it out: small tensors are always taken together.",
    "fused": "Leave it out; torch.compile(optimizer.step) fuses.",
    "capturable": 'Leave it out: with nonfinite="ignore" and a tensor as lr a step can be captured.',
    "differentiable": "Write it with steepest.norms.penalized_step; autograd follows all but the polar factor.",
}
"""Options of torch's optimizers that there are none of here, with what to do instead."""


def refuse(options: Mapping[str, object], known: list[str]) -> None:
    """Raise InvalidArgument for the first option that is torch's but not ours, UnknownName for one that is neither."""
    for name, value in options.items():
        if name in TORCH_OPTIONS:
            raise InvalidArgument(f"{name} is not an option here", got=value, remedy=TORCH_OPTIONS[name])
        raise UnknownName.among("option", name, known)


def refuse_fixed(optimizer: str, options: Mapping[str, object], fixed: tuple[str, ...]) -> None:
    """Raise InvalidArgument for the first option that the optimizer decides itself."""
    for name in fixed:
        if name in options:
            raise InvalidArgument(
                f"{optimizer} has no option {name}", got=options[name], remedy="Leave it out, or use SteepestDescent."
            )


def check_group(options: Mapping[str, Any]) -> None:
    """Raise InvalidArgument if an option of a group is outside its range."""
    for name in TORCH_OPTIONS:
        if options.get(name):
            refuse({name: options[name]}, [])
    remedy = "Pass norm=, for example steepest.norms.L2(), to the optimizer or in the group."
    instance("norm", options["norm"], Norm, "a norm", remedy=remedy)
    one_of("mode", options["mode"], ("penalized", "constrained"))
    _check_rate(options["lr"])
    in_range("weight_decay", options["weight_decay"], "[0, inf)")
    in_range("factor", options["factor"], "[0, inf)")
    in_range("momentum", options["momentum"], "[0, 1)", remedy="Try 0.9, or 0 for none.")
    boolean("maximize", options["maximize"])
    if boolean("nesterov", options["nesterov"]) and not options["momentum"]:
        raise InvalidArgument(
            "nesterov must come with momentum", got="momentum=0", remedy="Pass momentum=0.9 or leave nesterov out."
        )


def _check_rate(lr: Any) -> None:
    if isinstance(lr, Tensor):
        if lr.numel() != 1:  # in the words of torch
            raise InvalidArgument(
                "Tensor lr must be 1-element", got=f"shape {tuple(lr.shape)}", remedy="Pass torch.tensor(0.1)."
            )
        lr = float(floating("lr", lr, remedy="Pass torch.tensor(0.1).").detach())
    in_range("lr", lr, "[0, inf)")


def check_members(group: Mapping[str, Any]) -> None:
    """Refuse parameters that are not dense, real and floating-point, or not those of a network's norm by name.

    Raises:
        InvalidArgument: If so.
        UnknownName: If a block of the norm has no parameter, or a parameter no block.
    """
    for i, parameter in enumerate(group["params"]):
        name = group["param_names"][i] if "param_names" in group else f"parameter {i}"
        floating(name, parameter, remedy="Train it as real floating-point numbers, or leave it out.")
    norm = group["norm"]
    if not isinstance(norm, Blockwise):
        return
    if "param_names" not in group:
        raise InvalidArgument(
            "parameters must come with names, by which a Blockwise norm finds them",
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
