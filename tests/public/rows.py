"""What is public, and the rows of the table: a valid call of each."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.public.kinds import Kind

import steepest

__all__ = ["PUBLIC", "Fresh", "Public", "Result", "Row", "row"]

SPECIAL = ("__call__", "__getitem__", "__matmul__")
"""Special methods with which a user calls an object; Python's own protocols (repr, eq, iteration) are not tried."""


class Fresh:
    """A valid argument that is made anew for each call."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


@dataclass(frozen=True)
class Row:
    """A valid call and what each parameter refuses.

    Attributes:
        arguments: By parameter: a valid argument, or a `Fresh` one, and its kind.
        then: What is done with the result, so that what a constructor has accepted is used.
        costly: Hostile values that are meaningful and would run for hours or fill the memory.
        nan: Why the result may be nan although no argument is.
        receiver: Of a constructor: makes the object of which methods are called; by default the valid call.
    """

    arguments: dict[str, tuple[Any, Kind]]
    then: Callable[[Any], Any] = lambda _result: None
    costly: tuple[str, ...] = ()
    nan: str = ""
    receiver: Callable[[], Any] | None = None

    def valid(self) -> dict[str, Any]:
        """Return valid arguments, by parameter."""
        values = {name: value for name, (value, _) in self.arguments.items()}
        return {name: value.make() if isinstance(value, Fresh) else value for name, value in values.items()}


@dataclass(frozen=True)
class Result:
    """A class whose objects the library makes: a record that keeps what it is given. Only its methods are tried."""

    make: Callable[[], Any]


def row(
    then: Callable[[Any], Any] = lambda _result: None,
    costly: tuple[str, ...] = (),
    nan: str = "",
    receiver: Callable[[], Any] | None = None,
    **arguments: tuple[Any, Kind],
) -> Row:
    """Return a `Row`, its parameters as keywords."""
    return Row(arguments, then, costly, nan, receiver)


@dataclass(frozen=True)
class Public:
    """Something public that can be called.

    Attributes:
        name: "norms.Lp", "norms.Lp.dual_norm".
        target: What is called: a function, a class, or a method as its class has it.
        owner: The class of a method, else None.
        bound: Whether a method needs an object of its class.
        rows: The names of rows that fit it, the first found counts: a class's own before those of its bases.
    """

    name: str
    target: Any
    owner: type | None = None
    bound: bool = False
    rows: tuple[str, ...] = field(default=())

    def parameters(self) -> dict[str, inspect.Parameter]:
        """Return the parameters that a caller passes."""
        found = dict(inspect.signature(self.target).parameters)
        if self.bound:
            found.pop(next(iter(found)))
        return found


@functools.cache
def modules() -> dict[str, Any]:
    """Return the public modules by name: "" for the package itself."""
    names = [m.name for m in pkgutil.iter_modules(steepest.__path__) if not m.name.startswith("_")]
    return {"": steepest, **{name: importlib.import_module(f"steepest.{name}") for name in names}}


def _public() -> Iterator[Public]:
    seen: set[int] = set()
    homes: dict[type, str] = {}
    everything = [(f"{m}.{n}", getattr(module, n)) for m, module in modules().items() for n in module.__all__ if m]
    everything += [(name, getattr(steepest, name)) for name in steepest.__all__]
    for name, value in everything:
        if inspect.isclass(value):
            homes.setdefault(value, name)
    for name, value in everything:
        if id(value) in seen or not callable(value) or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        seen.add(id(value))
        if not inspect.isclass(value):
            yield Public(name, value, rows=(name,))
            continue
        if not inspect.isabstract(value) and not getattr(value, "_is_protocol", False):
            bases = [homes[base] for base in value.__mro__ if base in homes and issubclass(base, Exception)]
            yield Public(name, value, rows=(name, *bases))
            yield from _methods(name, value, homes)


def _methods(name: str, owner: type, homes: dict[type, str]) -> Iterator[Public]:
    for method in dir(owner):
        static = inspect.getattr_static(owner, method)
        inner = static.__func__ if isinstance(static, (staticmethod, classmethod)) else static
        ours = inspect.isfunction(inner) and inner.__module__.partition(".")[0] == "steepest"
        if ours and (not method.startswith("_") or method in SPECIAL):
            rows = tuple(f"{homes[base]}.{method}" for base in owner.__mro__ if base in homes)
            bound = inner is static
            yield Public(f"{name}.{method}", static if bound else getattr(owner, method), owner, bound, rows)


PUBLIC: dict[str, Public] = {public.name: public for public in _public()}
"""Every public function, constructor and method, by name; found by walking the package."""
