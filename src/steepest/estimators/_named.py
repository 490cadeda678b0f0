"""Gradient sources by name, with their options."""

from __future__ import annotations

import ast
import inspect
from typing import Any, cast

from steepest._contained import last_line
from steepest._importing import load_attribute
from steepest.errors import InvalidArgument, SteepestError, UnknownName
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource

__all__ = ["SOURCES", "resolve_source"]

SOURCES: dict[str, GradientSource] = {
    "backprop": Backprop(),
    "pathwise": Pathwise(sigma=0.01, samples=4),
    "score-function": ScoreFunction(sigma=0.1, samples=100),
    "finite-difference": FiniteDifference(delta=0.01, samples=50, directions="random"),
}
"""The sources that have a name, with scales that suit the weights of a network."""


def resolve_source(source: Any) -> GradientSource:
    """Return the gradient source that a name, a name with options, `module:attribute` or an object stands for.

    Raises:
        UnknownName: If there is no source, or no option, of that name.
        ImportFailed: If `module:attribute` cannot be imported.
        InvalidArgument: If it is no source, or an option is wrong.

    >>> resolve_source("score-function:sigma=0.2,samples=10").samples
    10
    """
    if isinstance(source, str):
        name, _, options = source.partition(":")
        if name in SOURCES:
            return _with_options(name, SOURCES[name], options) if options else SOURCES[name]
        if not options:
            raise UnknownName.among(
                "gradient source", source, SOURCES, also=", or your own as MODULE:ATTR or FILE.py:ATTR"
            )
        source = load_attribute(source)
        if isinstance(source, type):
            source = _made(source)
    if not callable(source) or isinstance(source, type):
        raise InvalidArgument(
            "gradient must be a gradient source: source(objective, x, generator) -> Estimate",
            got=source,
            remedy=f"Pass a name ({', '.join(SOURCES)}), or for example ScoreFunction(sigma=0.05, samples=50).",
        )
    return cast(GradientSource, source)


def _made(kind: type) -> Any:
    """Return an object of a class that was named by its place.

    Raises:
        InvalidArgument: If it cannot be made.
    """
    try:
        return kind()
    except Exception as error:
        raise InvalidArgument(
            "the class of a gradient source must be made without arguments",
            got=f"{kind.__name__}: {last_line(error)}",
            remedy="Write a line that makes one, for example source = ScoreFunction(0.1, 20), and name that.",
        ) from error


def _with_options(name: str, default: Any, text: str) -> GradientSource:
    """Return a source of the kind of `default`, with some options as NAME=VALUE, separated by commas.

    A distribution is an object, which has no such form.

    Raises:
        UnknownName: If there is no option of that name.
        InvalidArgument: If an option has no value, or a wrong one.
    """
    known = [each for each in inspect.signature(type(default)).parameters if each != "distribution"]
    options: dict[str, Any] = {key: getattr(default, key) for key in known if hasattr(default, key)}
    for part in text.split(","):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not known or not equals:
            remedy = f"Known: {', '.join(known)}." if known else "It has none."
            raise InvalidArgument(f"an option of {name} must be NAME=VALUE", got=part, remedy=remedy)
        if key == "distribution":
            raise InvalidArgument(
                f"an option of {name} must be a number or a word, which a distribution is not",
                got=part,
                remedy="Write a line of Python that makes the source, and pass that as MODULE:ATTR or FILE.py:ATTR.",
            )
        if key not in known:
            raise UnknownName.among(f"option of {name}", key, known)
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):  # a word without quotes
            options[key] = value
    try:
        return type(default)(**options)
    except SteepestError:
        raise
    except Exception as error:
        raise InvalidArgument(f"the options of {name} must be valid", got=text, remedy=str(error)) from error
