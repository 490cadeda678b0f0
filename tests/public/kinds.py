"""What a parameter takes, as the hostile values that it must refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.public.hostile import VALUES

__all__ = [
    "ARRAY",
    "FLAG",
    "FLOATING",
    "FUNCTION",
    "GENERATOR",
    "MAPPING",
    "NAMES",
    "NUMBERS",
    "OBJECT",
    "PATH",
    "SERIES",
    "TEXT",
    "Kind",
    "anything",
    "choice",
    "number",
    "untried",
    "whole",
]

_NO_NUMBERS = (
    *("None", "True", "'x'", "'0'", "b'x'", "1j", "nan", "numpy nan", "[]", "{}", "[1.0, 2.0]", "object()"),
    *("raises in repr", "raises in array", "raises in eq", "int", "a function", "numpy vector", "tensor"),
    *("complex tensor", "sparse tensor", "meta tensor", "module"),
)
_NO_OBJECTS = (
    *("None", "True", "1", "nan", "'x'", "b'x'", "[]", "{}", "object()", "raises in repr", "raises in getattr", "int"),
    *("numpy vector", "tensor", "generator"),
)


@dataclass(frozen=True)
class Kind:
    """What a parameter takes.

    Attributes:
        refused: What it refuses, by name.
        reason: Why it refuses nothing, if so.
        tried: Whether it is ever given anything else than its valid value.
        called: Whether it is a function of the caller's, whose own errors come through.
    """

    refused: dict[str, Callable[[], Any]]
    reason: str = ""
    tried: bool = True
    called: bool = False

    def but(self, *names: str) -> Kind:
        """The same, where these are accepted."""
        assert set(names) <= set(self.refused), f"{set(names) - set(self.refused)} are not refused anyway"
        return replace(self, refused={name: make for name, make in self.refused.items() if name not in names})

    def also(self, *names: str, **values: Any) -> Kind:
        """The same, where these are refused as well: hostile values by name, and others by a name of their own."""
        more = {name: VALUES[name] for name in names} | {name: lambda value=v: value for name, v in values.items()}
        return replace(self, refused={**self.refused, **more})


def _refuses(*names: str) -> Kind:
    return Kind({name: VALUES[name] for name in names})


def anything(reason: str) -> Kind:
    """A parameter that takes every value, and why."""
    return Kind({}, reason)


def untried(reason: str) -> Kind:
    """A parameter that is only called as it is meant, and why: nobody but the library fills it."""
    return Kind({}, reason, tried=False)


def number(interval: str) -> Kind:
    """A real number in an interval, in the notation of `steepest._check.in_range`."""
    low, high = (float(end) for end in interval[1:-1].split(","))

    def outside(value: float) -> bool:
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        return not (above and below)

    tried = ("-inf", "-(10**30)", "-1", "-0.5", "0", "0.5", "1", "2.5", "1e300", "inf")
    beyond = [name for name in tried if outside(float(VALUES[name]()))]
    return _refuses(*_NO_NUMBERS, *beyond)


def whole(least: int, most: float = math.inf) -> Kind:
    """A whole number from `least` to `most`."""
    ends = {f"{least - 1}, below the least": lambda: least - 1}
    if most < math.inf:
        ends[f"{most + 1}, above the most"] = lambda: most + 1
    bad = _refuses(*_NO_NUMBERS, "inf", "-inf", "0.5", "2.5", "-0.5", "1e300", "Fraction", "Decimal")
    return Kind({**bad.refused, **ends})


def choice() -> Kind:
    """One of a few names."""
    return _refuses(
        *("None", "True", "1", "nan", "'x'", "''", "b'x'", "[]", "{}", "['x']", "object()", "raises in repr"),
        *("raises in eq", "int", "a function", "numpy vector", "tensor", "a lone surrogate"),
    )


FLAG = _refuses(
    *("None", "1", "0", "nan", "2.5", "'x'", "''", "b'x'", "[]", "object()", "raises in repr", "raises in eq"),
    *("a function", "numpy vector", "tensor", "0-d tensor"),
)
TEXT = _refuses(*("None", "True", "1", "nan", "b'x'", "[]", "{}", "object()", "raises in repr", "int", "tensor"))
FUNCTION = replace(
    _refuses("None", "True", "1", "nan", "'x'", "b'x'", "[]", "{}", "object()", "raises in repr", "tensor"), called=True
)
OBJECT = _refuses(*_NO_OBJECTS)
GENERATOR = OBJECT.but("generator").also("module")
FLOATING = _refuses(
    *("None", "True", "1", "nan", "'x'", "[]", "[1.0, 2.0]", "object()", "raises in repr", "raises in array", "int"),
    *("numpy vector", "numpy objects", "integer tensor", "boolean tensor", "complex tensor", "sparse tensor"),
    *("meta tensor", "module", "generator"),
)
ARRAY = _refuses(
    *("'x'", "['x']", "[None]", "[nan]", "1j", "[[1], [2, 3]]", "object()", "raises in repr", "raises in array"),
    *("int", "a function", "numpy objects", "numpy text", "numpy complex", "complex tensor", "meta tensor"),
    *("nan tensor", "inf tensor", "5-d tensor", "module", "generator"),
)
NAMES = _refuses("True", "1", "nan", "[None]", "[nan]", "['x']", "object()", "int", "tensor", "numpy vector")
MAPPING = _refuses(*("None", "True", "1", "nan", "'x'", "b'x'", "[]", "['x']", "object()", "raises in repr", "int"))
NUMBERS = _refuses(
    *("None", "True", "1", "nan", "'x'", "b'x'", "object()", "['x']", "[None]", "int", "{'x': None}", "numpy text"),
    *("raises in len", "module", "complex tensor", "meta tensor", "numpy complex"),
)
SERIES = _refuses(
    *(
        "None",
        "True",
        "1",
        "nan",
        "'x'",
        "b'x'",
        "[]",
        "[1.0, 2.0]",
        "object()",
        "['x']",
        "int",
        "{'x': None}",
        "{1: 2}",
    ),
    *("raises in len", "module", "tensor"),
)
PATH = _refuses("None", "True", "1", "nan", "b'x'", "[]", "{}", "object()", "int", "tensor", "a zero byte")
