"""The user's own modules that functions import when they are called."""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from steepest._contained import contained
from steepest.compare._identity.source import codes_of, functions_of, imported, is_own_file, own_modules, reachable

__all__ = ["load_deferred"]


def load_deferred(run: Any) -> None:
    """Import the user's own modules that a program would import only while it runs, so that their code can be examined.

    A module that cannot be imported is left to the program, which then says so itself.
    """
    tried: set[str] = set()
    while names := set(_deferred(run)) - tried:
        tried |= names
        for name in sorted(names):
            with contextlib.suppress(Exception), contained(f"the module {name}"):
                if name not in sys.modules and _is_own(name):
                    importlib.import_module(name)


def _deferred(run: Any) -> Iterator[str]:
    """Yield the names in the imports of a program's function, and of the functions of the modules that it reaches."""
    modules = own_modules()
    while isinstance(run, functools.partial | MethodType):
        run = run.func if isinstance(run, functools.partial) else run.__func__
    function = run if isinstance(run, FunctionType) else inspect.getattr_static(type(run), "__call__", None)
    if not isinstance(function, FunctionType):
        return
    yield from _imports([function.__code__], function.__globals__.get("__package__"))
    home = sys.modules.get(str(function.__module__))
    roots = [] if home is None else [home.__name__, *imported(home)]  # a script is not among the modules itself
    for name in reachable(roots, modules, by_name=True):
        module: ModuleType = modules[name]
        yield from _imports((each.__code__ for _, each in functions_of(module)), module.__package__)


def _imports(codes: Iterable[CodeType], package: str | None) -> Iterator[str]:
    """Yield the modules that code may import: of `from a import b` both a and a.b."""
    for code in (inner for outer in codes for inner in codes_of(outer)):
        instructions = list(dis.get_instructions(code))
        for level, of, instruction in zip(instructions, instructions[1:], instructions[2:], strict=False):
            if instruction.opname == "IMPORT_NAME":
                name = str(instruction.argval)
                if level.argval:
                    with contextlib.suppress(ImportError):
                        name = importlib.util.resolve_name("." * level.argval + name, package)
                yield name
                yield from (f"{name}.{each}" for each in of.argval or ())


def _is_own(name: str) -> bool:
    """Return whether a module is the user's own; one in a foreign package is not, and that package is not imported."""
    top = importlib.util.find_spec(name.partition(".")[0])
    if top is None or (top.origin is not None and not is_own_file(top.origin)):
        return False
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and is_own_file(spec.origin)
