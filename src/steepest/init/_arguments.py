"""The requirements that a model must meet before it is initialised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from steepest._check import instance
from steepest._frozen import frozen_names
from steepest._sharding import is_sharded
from steepest.errors import InvalidArgument
from steepest.init._layers.parametrized import hooked_weights

__all__ = ["check_data", "check_model", "untrained"]


def check_model(model: nn.Module) -> None:
    """Refuse a model without parameters, or with parameters that have no data yet.

    Raises:
        InvalidArgument: If so.
    """
    named = list(instance("model", model, nn.Module, "a torch.nn.Module").named_parameters())
    if not named:
        raise InvalidArgument(
            "a model to initialise must have parameters", got=type(model).__name__, remedy="Pass a module with layers."
        )
    for name, parameter in named:
        if is_lazy(parameter):
            raise InvalidArgument(
                "a lazy layer must have seen its input before it is filled",
                got=name,
                remedy="Run one batch through it first.",
            )
        if parameter.is_meta:
            raise InvalidArgument(
                "a parameter to initialise must have memory, and on the meta device there is none",
                got=name,
                remedy="Call model.to_empty(device=...) first.",
            )


def check_data(model: nn.Module, data: Any) -> None:
    """Refuse data that are no inputs, or for a model of which each process holds a part.

    Raises:
        InvalidArgument: If so.
    """
    if data is None:
        return
    if not isinstance(data, (Tensor, tuple, dict)) or (isinstance(data, dict) and not data):
        raise InvalidArgument(
            "data must be a tensor, or a tuple or a dict of the model's inputs",
            got=type(data).__name__,
            remedy="Pass one batch.",
        )
    if any(is_sharded(parameter) for parameter in model.parameters()):
        raise InvalidArgument(
            "a model that is run on data must not be sharded",
            got=type(model).__name__,
            remedy="Initialise without data, or before sharding.",
        )


def untrained(model: nn.Module, frozen: Sequence[str]) -> dict[str, str]:
    """Return the names of the parameters that are not to be touched, with the reason.

    Raises:
        InvalidArgument: If frozen is not a sequence of strings.
        UnknownName: If a name in it is no parameter's or module's.
    """
    named = frozen_names(model, frozen)
    left: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        if name in named:
            left[name] = "frozen"
        elif not parameter.requires_grad:
            left[name] = "requires_grad=False"
    # A weight given through several parameters cannot be filled without all of them.
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        weights = [[own[name] for name in hooked.parameters] for hooked in hooked_weights(module)]
        if isinstance(module, ParametrizationList):
            weights.append(list(own.values()))
        for parts in weights:
            names = [first[id(parameter)] for parameter in parts]
            for name in names if any(name in left for name in names) else ():
                left.setdefault(name, "another parameter of this weight is frozen")
    return left
