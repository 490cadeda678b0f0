"""A saved state, arranged for the optimizer that loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from steepest._check import at_least, floating
from steepest.errors import InvalidArgument
from steepest.optim._options import TORCH_OPTIONS, check_group

__all__ = ["arranged"]

Group = dict[str, Any]

# Where the options of a group say one of these, its momentum buffers mean something else.
_OTHER_MOMENTUM = ("dampening", "ns_steps")


def arranged(saved: Any, groups: Sequence[Group], kept: frozenset[str], own: frozenset[str]) -> dict[str, Any]:
    """Return a saved state in the groups of an optimizer: by name where both sides have names, in order elsewhere.

    Options that the state lacks are the optimizer's own.

    Args:
        saved: What some `state_dict()` has returned.
        groups: The optimizer's.
        kept: The names of the tensors that the optimizer keeps per parameter.
        own: The options that are never taken from a state, such as the norm.

    Raises:
        InvalidArgument: If it is no state; if names, shapes or tensors are not the optimizer's; if parameters of one
            group come with several options; if an option is outside its range.
    """
    if not (
        isinstance(saved, Mapping)
        and isinstance(saved.get("state"), Mapping)
        and isinstance(saved.get("param_groups"), list)
        and all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in saved["param_groups"])
        and all(len(_names(g)) in (0, len(g["params"])) for g in saved["param_groups"])
    ):
        raise InvalidArgument(
            "a state must be what state_dict() returns", got=saved, remedy="Pass optimizer.state_dict()."
        )
    state = dict(saved["state"])
    found: list[Group] = []
    for i, (group, members) in enumerate(zip(groups, _sources(saved["param_groups"], groups), strict=True)):
        options = _options(group, [source for _, source in members], own)
        found.append({**options, "params": [key for key, _ in members]})
        for j, (parameter, (key, source)) in enumerate(zip(group["params"], members, strict=True)):
            name = group["param_names"][j] if "param_names" in group else f"parameter {j} of group {i}"
            if key in state:
                state[key] = _tensors(name, parameter, state[key], source, kept)
    return {**saved, "state": state, "param_groups": found}


def _sources(saved: list[Group], groups: Sequence[Group]) -> list[list[tuple[Any, Group]]]:
    """Return for every parameter of every group its key in the state, and the group in which it was saved."""
    names = [_names(group) for group in saved]
    if all(names) and all("param_names" in group for group in groups):
        keys = [(key, group) for group in saved for key in group["params"]]
        theirs = [name for of_group in names for name in of_group]
        ours = [name for group in groups for name in group["param_names"]]
        for spelled in (str, _plain):
            by_name = dict(zip(map(spelled, theirs), keys, strict=True))
            wanted = {spelled(name) for name in ours}
            # Duplicate names identify nothing.
            if wanted == set(by_name) and len(by_name) == len(theirs) and len(wanted) == len(ours):
                return [[by_name[spelled(name)] for name in group["param_names"]] for group in groups]
        if wanted != set(by_name):
            missing, others = sorted(wanted - set(by_name)), sorted(set(by_name) - wanted)
            raise InvalidArgument(
                "the parameters of a state must have the names of the optimizer's",
                got=f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(others) or 'none'}",
                remedy="Rename them in a hook, see register_load_state_dict_pre_hook.",
            )
    sizes, own_sizes = ([len(group["params"]) for group in each] for each in (saved, groups))
    if len(sizes) != len(own_sizes):
        raise InvalidArgument(
            "a state must not have a different number of parameter groups",
            got=f"{len(sizes)} for {len(own_sizes)}",
            remedy="Make the optimizer with the groups that were saved, or both with named parameters.",
        )
    if sizes != own_sizes:
        raise InvalidArgument(
            f"the groups of a state must have as many parameters as the optimizer's, {own_sizes}",
            got=sizes,
            remedy="Make the optimizer with the groups that were saved, or both with named parameters.",
        )
    return [[(key, group) for key in group["params"]] for group in saved]


def _names(group: Group) -> list[str]:
    """Return the names of a saved group's parameters; torch.distributed.checkpoint has them in place of numbers."""
    keys = group["params"]
    return keys if keys and all(isinstance(key, str) for key in keys) else group.get("param_names", [])


def _plain(name: str) -> str:
    """Return a name without what torch.compile and DistributedDataParallel put in front."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _options(group: Group, sources: list[Group], own: frozenset[str]) -> Group:
    """Return the options of a group, as saved where they were and else as they are."""
    dropped = {"params", "param_names", "dampening", *TORCH_OPTIONS, *own}
    found: Group = {}
    for source in sources:
        for name, value in source.items():
            if name in dropped or found.get(name) is value:
                continue
            if name in found and _plain_number(found[name]) != _plain_number(value):
                raise InvalidArgument(
                    f"parameters of one group must have one {name}",
                    got=f"{found[name]!r} and {value!r} in the state",
                    remedy="Make the optimizer with the groups that were saved.",
                )
            found[name] = value
    options = {**{name: value for name, value in group.items() if name != "params"}, **found}
    check_group(options)
    return options


def _plain_number(value: Any) -> Any:
    return float(value) if isinstance(value, Tensor) and value.numel() == 1 else value


def _tensors(name: str, parameter: Tensor, entries: Any, source: Group, kept: frozenset[str]) -> dict[str, Any]:
    """Return what a state holds for a parameter, which is all that the optimizer keeps, or nothing."""
    if not isinstance(entries, Mapping):
        raise InvalidArgument(
            f"the state of {name} must be tensors by name", got=entries, remedy="Pass optimizer.state_dict()."
        )
    found = {key: value for key, value in entries.items() if value is not None}
    other = [option for option in _OTHER_MOMENTUM if source.get(option)]
    if found and (found.keys() != kept or other):
        raise InvalidArgument(
            f"the state of {name} must hold {', '.join(sorted(kept))} of an optimizer of this kind",
            got=", ".join([*sorted(map(str, found)), *other]),
            remedy="Load the state of the same optimizer, or start without one.",
        )
    for key, value in found.items():
        if key == "step":
            count = _plain_number(value)
            at_least(f"step of {name}", int(count) if isinstance(count, float) and count.is_integer() else count, 0)
        elif floating(f"{key} of {name}", value).shape != parameter.shape:
            raise InvalidArgument(
                f"{key} of {name} must have the parameter's shape, {tuple(parameter.shape)}",
                got=f"shape {tuple(value.shape)}",
                remedy="Load the state of a model of the same sizes.",
            )
    return found
