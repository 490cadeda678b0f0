"""What a model has to be before it can be initialised."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steepest._sharding import is_sharded
from steepest.errors import InvalidArgument

__all__ = ["check_data", "check_model"]


def check_model(model: nn.Module) -> None:
    """Refuse a model without parameters, or with some that hold nothing yet.

    Raises:
        InvalidArgument: If so.
    """
    named = list(model.named_parameters())
    if not named:
        raise InvalidArgument(
            "a model to initialise has parameters", got=type(model).__name__, remedy="Pass a module with layers."
        )
    for name, parameter in named:
        if is_lazy(parameter):
            raise InvalidArgument(
                "a lazy layer has no parameters to fill before it has seen its input",
                got=name,
                remedy="Run one batch through it first.",
            )
        if parameter.is_meta:
            raise InvalidArgument(
                "a parameter on the meta device has no memory to fill",
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
    if not isinstance(data, (Tensor, tuple)):
        raise InvalidArgument(
            "data must be a tensor, or a tuple of the model's inputs", got=type(data).__name__, remedy="Pass one batch."
        )
    if any(is_sharded(parameter) for parameter in model.parameters()):
        raise InvalidArgument(
            "a sharded model cannot be run to see what it does",
            got=type(model).__name__,
            remedy="Initialise without data, or before sharding.",
        )
