"""The door of this room."""

from __future__ import annotations

import torch
from torch import Generator, nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.init._schemes import SCHEMES, Initializer
from steepest.init._table import InitTable

__all__ = ["initialize", "resolve_scheme"]


def resolve_scheme(scheme: str | Initializer) -> Initializer:
    """Return the scheme of that name, or the scheme given.

    Raises:
        UnknownName: If there is no scheme of that name.

    >>> resolve_scheme("random")
    Normal(std=0.01)
    """
    if isinstance(scheme, Initializer):
        return scheme
    if scheme not in SCHEMES:
        raise UnknownName.among("init", scheme, SCHEMES)
    return SCHEMES[scheme]()


def initialize(model: nn.Module, scheme: str | Initializer, generator: Generator | None = None) -> InitTable:
    """Fill every parameter of a model in place, and say what was done.

    Args:
        model: Any module with parameters; it stays on its device.
        scheme: A scheme, or a name in `SCHEMES`: zero, random (N(0, .01^2), also normal), he, default.
        generator: The source of randomness, on the parameters' device; None uses a private one, seed 0.

    Returns:
        A table with one row a parameter: rule, standard deviation asked and measured.

    Raises:
        UnknownName: If there is no scheme of that name.
        InvalidArgument: If the model has no parameters.

    >>> model = nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10))
    >>> initialize(model, "he")["0.weight"].std_asked
    0.2
    """
    initializer = resolve_scheme(scheme)
    first = next(model.parameters(), None)
    if first is None:
        raise InvalidArgument(
            "a model to initialise has parameters",
            got=type(model).__name__,
            remedy="Pass a module with layers.",
        )
    return initializer(model, generator or torch.Generator(first.device).manual_seed(0))
