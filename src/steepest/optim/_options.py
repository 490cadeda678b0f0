"""The options of `SteepestDescent`, and their validation."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Set
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steepest._check import boolean, floating, in_range, instance, one_of
from steepest.errors import InvalidArgument, SteepestError, UnknownName
from steepest.norms import Blockwise, Norm

__all__ = [
    "TORCH_OPTIONS",
    "Mode",
    "Nonfinite",
    "check_group",
    "check_members",
    "check_rate",
    "check_seen",
    "group_of",
    "groups_of",
    "in_own_words",
    "listed",
    "plain",
    "refuse",
    "refuse_fixed",
]

Mode = Literal["penalized", "constrained"]
Nonfinite = Literal["raise", "skip", "ignore"]

_LARGEST = 3e38

TORCH_OPTIONS = {
    "foreach": "Leave it out: small tensors are always taken together.",
    "fused": "Leave it out; torch.compile(optimizer.step) fuses.",
    "capturable": 'Leave it out: with nonfinite="ignore" and a tensor as lr a step can be captured.',
    "differentiable": "Write it with steepest.norms.penalized_step; autograd follows all but the polar factor.",
}
"""Options of torch's optimizers that do not exist here, with what to do instead."""


def refuse(options: Mapping[str, object], known: list[str]) -> None:
    """Raise InvalidArgument for the first unsupported option of torch's, UnknownName for an unknown option."""
    for name, value in options.items():
        if name in TORCH_OPTIONS:
            raise InvalidArgument(f"{name} is not an option here", got=value, remedy=TORCH_OPTIONS[name])
        raise UnknownName.among("option", name, known)


def refuse_fixed(optimizer: str, options: Mapping[str, object], fixed: tuple[str, ...]) -> None:
    """Raise InvalidArgument for the first option that the optimizer sets itself."""
    for name in fixed:
        if name in options:
            raise InvalidArgument(
                f"{optimizer} has no option {name}", got=options[name], remedy="Leave it out, or use SteepestDescent."
            )


class NotParameters(InvalidArgument, TypeError):  # noqa: N818 - as the others
    """The parameters are not a list of parameters, for which torch's optimizers raise a TypeError."""


def listed(name: str, value: Any, described: str) -> list[Any]:
    """Return the items of what can be iterated over in an order, or raise InvalidArgument."""
    remedy = f"Pass {described}."
    if isinstance(value, (str, bytes, Mapping, Set, nn.Module)):
        raise NotParameters(f"{name} must be {described}", got=value, remedy=remedy)
    try:
        iterator = iter(value)
    except Exception as error:
        raise NotParameters(f"{name} must be {described}", got=value, remedy=remedy) from error
    return list(iterator)


_PARAMETERS = "parameters, or pairs of a name and a parameter"


def groups_of(params: Any) -> list[Any]:
    """Return what an optimizer is made of, a list of parameters, of named ones or of group dicts, each listed too.

    Raises:
        InvalidArgument: If it is none of that.
    """
    if isinstance(params, Tensor):  # in the words of torch
        rule = "params argument given to the optimizer should be an iterable of Tensors or dicts"
        raise NotParameters(rule, got=f"a tensor of shape {tuple(params.shape)}", remedy="Put it into a list.")
    members = listed("params", params, f"{_PARAMETERS}, or dicts of them, as of model.parameters()")
    if not members:  # in the words of torch
        remedy = "Pass a model that has parameters with requires_grad=True."
        raise NotParameters("params must hold a parameter", got="an empty parameter list", remedy=remedy)
    if members and isinstance(members[0], dict):
        return [group_of(member) for member in members]
    return _members(members)


def group_of(group: Any) -> dict[str, Any]:
    """Return a copy of a group with a list of its parameters, or raise InvalidArgument."""
    remedy = 'Pass {"params": list(model.parameters())}.'
    if "params" not in instance("a group", group, dict, "a dict", remedy=remedy):
        raise InvalidArgument("a group must have params", got=group, remedy=remedy)
    params = group["params"]
    members = [params] if isinstance(params, Tensor) else listed("params of a group", params, _PARAMETERS)
    return {**group, "params": _members(members)}


def _members(members: list[Any]) -> list[Any]:
    for member in members:
        named = isinstance(member, tuple) and len(member) == 2 and isinstance(member[0], str)
        parameter: object = member[1] if named else member
        if not isinstance(parameter, Tensor):
            raise NotParameters(f"params must be {_PARAMETERS}", got=member, remedy="Pass model.named_parameters().")
        check_seen(str(member[0]) if named else "a parameter", parameter)
    return members


def check_seen(name: str, parameter: Tensor) -> None:
    """Raise InvalidArgument if a parameter is a lazy layer's that has not seen its input."""
    if is_lazy(parameter):
        raise InvalidArgument(
            f"{name} must have a shape", got=parameter, remedy="Run one batch through the model first."
        )


@contextlib.contextmanager
def in_own_words() -> Generator[None, None, None]:
    """Turn errors of torch's optimizer inside into InvalidArgument."""
    try:
        yield
    except SteepestError:
        raise
    except (TypeError, ValueError) as error:
        remedy = "Pass each parameter once, all with names or none."
        raise NotParameters("params must be what an optimizer can train", got=str(error), remedy=remedy) from error


def check_group(options: Mapping[str, Any]) -> None:
    """Raise InvalidArgument if an option of a group is outside its range."""
    for name in TORCH_OPTIONS:
        if options.get(name):
            refuse({name: options[name]}, [])
    remedy = "Pass norm=, for example steepest.norms.L2(), to the optimizer or in the group."
    instance("norm", options["norm"], Norm, "a norm", remedy=remedy)
    one_of("mode", options["mode"], ("penalized", "constrained"))
    check_rate(options["lr"])
    in_range("weight_decay", options["weight_decay"], "[0, inf)")
    in_range("factor", options["factor"], "[0, inf)")
    in_range("momentum", options["momentum"], "[0, 1)", remedy="Try 0.9, or 0 for none.")
    boolean("maximize", options["maximize"])
    if boolean("nesterov", options["nesterov"]) and not options["momentum"]:
        raise InvalidArgument(
            "nesterov must come with momentum", got="momentum=0", remedy="Pass momentum=0.9 or leave nesterov out."
        )


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked options with fractions and the like as the floats that torch's functions take."""
    numbers = ("lr", "momentum", "weight_decay", "factor")
    return {
        name: float(value) if name in numbers and not isinstance(value, (int, float, Tensor)) else value
        for name, value in options.items()
    }


def check_rate(lr: Any) -> None:
    """Raise InvalidArgument unless lr is a finite number >= 0, or a floating-point tensor of one."""
    if isinstance(lr, Tensor):
        if lr.numel() != 1:  # in the words of torch
            raise InvalidArgument(
                "Tensor lr must be 1-element", got=f"shape {tuple(lr.shape)}", remedy="Pass torch.tensor(0.1)."
            )
        lr = float(floating("lr", lr, remedy="Pass torch.tensor(0.1).").detach())
    if in_range("lr", lr, "[0, inf)") > _LARGEST:
        raise InvalidArgument("lr must be in the range of float32", got=lr, remedy="Pass a smaller one.")


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
