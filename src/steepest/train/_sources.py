"""Which gradient source a run uses, and its name."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from steepest.errors import InvalidArgument
from steepest.estimators import Backprop, GradientSource, resolve_source

__all__ = ["chosen_source", "source_name"]

_PLAIN = (bool, int, float, str)


def chosen_source(gradient: Any) -> GradientSource | None:
    """Return the gradient source that a name or an object stands for; None for backpropagation.

    Raises:
        UnknownName: If there is no source of that name.
        ImportFailed: If `module:attribute` cannot be imported.
        InvalidArgument: If it is no gradient source.
    """
    source = None if gradient is None else resolve_source(gradient)
    if source is None or type(source) is Backprop:
        return None
    try:
        inspect.signature(source).bind(None, None, None)
    except ValueError:  # a function in C may have no signature
        return source
    except TypeError as error:
        raise InvalidArgument(
            "gradient must be a gradient source, called as source(objective, x, generator)",
            got=f"{source_name(source)}: {error}",
            remedy="See steepest.estimators.GradientSource.",
        ) from error
    return source


def source_name(source: GradientSource | None) -> str:
    """Return the name of a source, with the options that are not the default.

    >>> import torch
    >>> from steepest.estimators import ScoreFunction
    >>> source_name(ScoreFunction(sigma=0.05, samples=20)), source_name(None)
    ('ScoreFunction(sigma=0.05, samples=20)', 'backpropagation')
    >>> source_name(ScoreFunction(sigma=0.05, samples=20, distribution=torch.distributions.Laplace(0.0, 1.0)))
    'ScoreFunction(sigma=0.05, samples=20, distribution=Laplace)'
    """
    if source is None:
        return "backpropagation"
    inner = source.func if isinstance(source, functools.partial) else source
    if name := getattr(inner, "__name__", None):
        return str(name)
    try:
        parameters = inspect.signature(type(source)).parameters
    except (TypeError, ValueError):
        parameters = {}
    held = {name: getattr(source, name, None) for name in parameters}
    options = [
        f"{name}={_shown(value)}"
        for name, value in held.items()
        if value is not None and not (isinstance(value, _PLAIN) and value == parameters[name].default)
    ]
    return f"{type(source).__name__}({', '.join(options)})" if options else type(source).__name__


def _shown(value: Any) -> str:
    """Return a number or a word as it is, of anything else its kind."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, _PLAIN) else type(value).__name__
