"""Parameters that are frozen on purpose, given by name, by module, or by a pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from torch import nn

from steepest.errors import InvalidArgument, UnknownName

__all__ = ["frozen_names", "patterns_of"]


def patterns_of(frozen: Iterable[str]) -> list[str]:
    """Return the names and patterns in `frozen`, which may be a single string.

    Raises:
        InvalidArgument: If frozen is not a sequence of strings.

    >>> patterns_of("encoder.*")
    ['encoder.*']
    """
    rule = "frozen must be names of parameters or modules, or patterns"
    try:
        given: list[object] = [frozen] if isinstance(frozen, str) else [*iter(frozen)]
    except Exception as error:  # what is passed may raise anything
        raise InvalidArgument(rule, got=frozen, remedy='Try frozen=["encoder"].') from error
    patterns = [pattern for pattern in given if isinstance(pattern, str)]
    if len(patterns) < len(given):
        raise InvalidArgument(rule, got=given, remedy='Try frozen=["encoder"].')
    return patterns


def frozen_names(model: nn.Module, frozen: Iterable[str]) -> set[str]:
    """Return the names in `model.named_parameters()` of the parameters that `frozen` names.

    Args:
        model: The model.
        frozen: Names of parameters, names of modules, or patterns as in a shell ("encoder.*"); a tied parameter may be
            given by any of its names.

    Raises:
        InvalidArgument: If frozen is not a sequence of strings.
        UnknownName: If one of them names nothing.

    >>> sorted(frozen_names(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["0", "*.bias"]))
    ['0.bias', '0.weight', '1.bias']
    """
    patterns = patterns_of(frozen)
    named = dict(model.named_parameters())
    first = {id(parameter): name for name, parameter in named.items()}
    every = [(name, first[id(p)]) for name, p in model.named_parameters(remove_duplicate=False)]
    found: set[str] = set()
    for pattern in patterns:
        matched = {shown for name, shown in every if _matches(name, pattern)}
        if not matched:
            raise UnknownName.among("parameter or module", pattern, named)
        found |= matched
    return found


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatch.fnmatchcase(name, pattern)
