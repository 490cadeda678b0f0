"""The values that functions and objects hold, which their code does not contain."""

from __future__ import annotations

import dis
import enum
import functools
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from steepest.compare._identity.identity import Part, digest
from steepest.compare._identity.sketch import sketch
from steepest.compare._identity.source import code_digest, codes_of, file_of, is_own_file, shown_file

__all__ = ["Values"]

_MOST = 20_000  # objects that are examined
_DEEPEST = 30
_HEAP_TYPE = 1 << 9  # Python's flag of classes that a class statement made
_LONGEST = 400  # entries of a list; of longer ones a digest, or the first and the last 200
_NAMESPACES = ("argparse", "builtins", "types")  # modules of the standard library whose objects hold a user's settings
_PLAIN = (type(None), bool, int, complex, bytes, torch.dtype, torch.device, torch.Size, torch.layout, enum.Enum)


class Values:
    """Collects all values that functions and objects refer to, recursively.

    These are globals by the names that functions use, closures, defaults, arguments of partials, attributes, contents
    of containers, and tensors.

    Code whose syntax is known is not read again; of other code (a notebook, a script, `exec`) the code objects are.
    Installed packages are identified by their versions. Only the last part of a path counts, so that a moved folder
    is the same.

    Args:
        syntax: Names of the files whose syntax is known, by path.

    Attributes:
        code: Digests of functions whose syntax is not known, by name.
        modules: The names of the user's modules that were met.
        packages: The names of the installed packages that were met.
    """

    def __init__(self, syntax: Mapping[str, str]) -> None:
        self._syntax = syntax
        self._texts: dict[str, list[str]] = defaultdict(list)
        self._sketches: dict[str, list[list[Any]]] = defaultdict(list)
        self._known: dict[int, Any] = {}  # functions and classes, held so that no other gets their number
        self._open: set[int] = set()
        self._left = _MOST
        self._code: dict[str, list[str]] = defaultdict(list)
        self.modules: set[str] = set()
        self.packages: set[str] = set()

    @property
    def code(self) -> dict[str, str]:
        """Digests of functions whose syntax is not known, by name."""
        return {name: found[0] if len(found) == 1 else digest(found) for name, found in self._code.items()}

    def found(self) -> Part:
        """Return the collected values as an `Identity` holds them."""
        parts: dict[str, Any] = {}
        for label in dict.fromkeys([*self._texts, *self._sketches]):
            texts, sketches = self._texts[label], self._sketches[label]
            if sketches:
                # Many tensors of one name, such as those of a network, count together; of integers the text says all.
                numbers = [each[1:] for each in sketches if len(each) > 2] or [[0.0]]
                sums = zip(*([(1 + i % 7 / 7) * x for x in each] for i, each in enumerate(numbers)), strict=True)
                parts[label] = [digest([texts, *(each[0] for each in sketches)]), *map(sum, sums)]
            else:
                parts[label] = texts[0] if len(texts) == 1 else digest(texts)
        return parts

    def follow(self, name: str, value: Any) -> None:
        """Collect a value and all that it holds; the attributes of an object are kept by their names."""
        if not _has_attributes(value):
            self._look(name, name, value, 0)
            return
        self._look_at_class(type(value), name)
        for attribute, held in _attributes(value):
            self._look(f"{name}: {attribute}", name, held, 1)

    def _look(self, label: str, root: str, value: Any, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return
        text = _text(value)
        if text is not None:
            self._texts[label].append(text)
        elif isinstance(value, Tensor | np.ndarray):
            self._look_at_numbers(label, value)
        elif isinstance(value, ModuleType):
            self._look_at_module(value)
        elif isinstance(value, FunctionType):
            self._look_at_function(value, root, depth)
        elif isinstance(value, type):
            self._texts[label].append(value.__qualname__)
            self._look_at_class(value, root, depth)
        elif id(value) not in self._open:
            self._open.add(id(value))
            try:
                for part in self._parts(label, root, value, depth):
                    self._look(label, root, part, depth + 1)
            except Exception:  # a user's object may raise anything when its attributes are read
                self._texts[label].append(type(value).__qualname__)
            self._open.discard(id(value))

    def _parts(self, label: str, root: str, value: Any, depth: int) -> Iterator[Any]:
        """Yield the parts of an object."""
        self._texts[label].append(type(value).__qualname__)
        if isinstance(value, MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            yield from (value.func, value.args, value.keywords)
        elif value is os.environ:  # most of it is unrelated to the task, and the first step shows the rest
            return
        elif isinstance(value, Mapping):
            yield from _sample([part for pair in list(cast("Mapping[Any, Any]", value).items()) for part in pair])
        elif isinstance(value, set | frozenset):
            yield sorted(_text(held) or type(held).__qualname__ for held in cast("set[Any]", value))
        elif isinstance(value, list | tuple | deque):
            yield from _sample(list(cast("list[Any]", value)))
        else:
            self._look_at_class(type(value), root, depth)
            name = getattr(value, "__qualname__", None)  # of a built-in function
            yield name if isinstance(name, str) else ""
            for attribute, held in _attributes(value):
                yield from (attribute, held)

    def _look_at_numbers(self, label: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            try:
                value = torch.from_numpy(np.ascontiguousarray(value))
            except TypeError:  # texts or objects
                self._texts[label].append(f"{value.dtype} {value.shape} {digest(value.astype(str).tolist())}")
                return
        self._sketches[label].append(sketch(value))

    def _look_at_module(self, module: ModuleType) -> None:
        file = file_of(module)
        if file is None or is_own_file(file):
            self.modules.add(module.__name__)
        else:
            self.packages.add(module.__name__.partition(".")[0])

    def _look_at_function(self, function: FunctionType, root: str, depth: int) -> None:
        if id(function) in self._known:
            return
        self._known[id(function)] = function
        name = self._name("function", function, root, function.__code__.co_filename)
        own = _is_own_function(function)
        if own:
            self.modules.add(str(function.__module__))
            if not self._is_known_syntax(function):
                self._code[name].append(code_digest(function.__code__, function.__doc__))
        else:
            self.packages.add(str(function.__module__).partition(".")[0])
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._look(f"{variable} in {name}", root, cell.cell_contents, depth + 1)
            except ValueError:  # not yet filled
                continue
        if own:
            for argument, default in _defaults(function):
                self._look(f"{argument} of {name}", root, default, depth + 1)
            self._look_at_globals(function, root, depth)

    def _is_known_syntax(self, function: FunctionType) -> bool:
        file = function.__code__.co_filename
        if file.startswith("<"):  # what a decorator such as dataclass writes follows from the class
            file = file_of(sys.modules.get(str(function.__module__))) or ""
        return file in self._syntax

    def _look_at_globals(self, function: FunctionType, root: str, depth: int) -> None:
        names = dict.fromkeys(name for code in codes_of(function.__code__) for name in code.co_names)
        used = {
            each.argval
            for code in codes_of(function.__code__)
            for each in dis.get_instructions(code)
            if _is_global(each)
        }
        where = self._syntax.get(function.__code__.co_filename)
        for name in names:
            if name.startswith("__") or name not in used or name not in function.__globals__:
                continue
            value = function.__globals__[name]
            self._look(f"{where}: {name}" if where else name, root, value, depth + 1)
            file = file_of(value) if isinstance(value, ModuleType) else None
            if file is not None and is_own_file(file):  # helpers.SCALE
                shown = shown_file(value.__name__, file)
                for attribute in names:
                    if attribute in vars(value) and not attribute.startswith("__"):
                        self._look(f"{shown}: {attribute}", root, vars(value)[attribute], depth + 1)

    def _look_at_class(self, of: type, root: str, depth: int = 0) -> None:
        for each in of.__mro__:
            if id(each) in self._known or each is object:
                continue
            self._known[id(each)] = each
            if not _is_own_class(each):
                self.packages.add(each.__module__.partition(".")[0])
                continue
            self.modules.add(each.__module__)
            file = file_of(sys.modules.get(each.__module__))
            name = self._name("class", each, root, file)
            for attribute, held in list(vars(each).items()):
                bare = held.__func__ if isinstance(held, staticmethod | classmethod) else held
                for part in (bare.fget, bare.fset) if isinstance(bare, property) else (bare,):
                    if isinstance(part, FunctionType | functools.partial) or not attribute.startswith("__"):
                        self._look(f"{name}: {attribute}", root, part, depth + 1)

    def _name(self, kind: str, value: FunctionType | type, root: str, file: str | None) -> str:
        where = self._syntax.get(file or "")
        name = value.__qualname__.rpartition("<locals>.")[2]
        if "<lambda>" in name:
            return f"{where}: a lambda" if where else f"a lambda of {root}"
        called = f"{'method' if '.' in name else kind} {name}"
        return f"{where}: {called}" if where else called


def _text(value: Any) -> str | None:
    """Return a value without parts as text, any other as None."""
    if isinstance(value, float):  # the last bits differ between machines
        return f"{value:.9g}"
    if isinstance(value, np.generic):
        return repr(value.item()) if not isinstance(value, np.floating) else f"{value:.9g}"
    if isinstance(value, str):
        return repr(PurePath(value).name if PurePath(value).is_absolute() else value)
    if isinstance(value, PurePath):
        return repr(value.name)
    return repr(value) if isinstance(value, _PLAIN) else None


def _sample(held: list[Any]) -> list[Any]:
    """Return the examined parts of a container: all; of a long one a digest, or both ends if it is not plain."""
    if len(held) <= _LONGEST:
        return held
    if (plain := _plain(held, 0)) is not None:
        return [digest(plain)]
    return [len(held), *held[: _LONGEST // 2], *held[-_LONGEST // 2 :]]


def _plain(value: Any, depth: int) -> Any:
    """Return numbers, texts and containers of them as plain JSON; None if there is anything else."""
    if isinstance(value, Mapping):
        value = [list(pair) for pair in cast("Mapping[Any, Any]", value).items()]
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        parts = [_plain(part, depth + 1) for part in cast("list[Any]", value)]
        return None if None in parts else parts
    return _text(value)


def _has_attributes(value: Any) -> bool:
    return not isinstance(
        value, FunctionType | MethodType | functools.partial | type | ModuleType | Tensor
    ) and hasattr(value, "__dict__")


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """Return the attributes of an object by name, from `__dict__` and slots."""
    home = type(value).__module__.partition(".")[0]
    if home in sys.stdlib_module_names and home not in _NAMESPACES:
        # A logger refers to all others. Of wrappers of functools, the function inside is what counts.
        return [("__wrapped__", value.__wrapped__)] if "__wrapped__" in getattr(value, "__dict__", {}) else []
    names = dict.fromkeys(getattr(value, "__dict__", {}))
    for each in type(value).__mro__:
        slots = vars(each).get("__slots__", ())
        names |= dict.fromkeys([slots] if isinstance(slots, str) else slots)
    is_module = isinstance(value, nn.Module)
    return [
        (name, getattr(value, name))
        for name in names
        if not name.startswith("__") and not (is_module and name == "training") and hasattr(value, name)
    ]


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code, defaults = function.__code__, function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _is_global(instruction: dis.Instruction) -> bool:
    return instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")


def _is_own_function(function: FunctionType) -> bool:
    file = function.__code__.co_filename
    # Code that was typed in, or written by a decorator such as dataclass, has no file.
    return _is_own_module(str(function.__module__)) if file.startswith("<") else is_own_file(file)


def _is_own_class(of: type) -> bool:
    if of.__module__ == "builtins":  # also the module of a class that `exec` made without a module name
        return bool(of.__flags__ & _HEAP_TYPE)
    return _is_own_module(of.__module__)


def _is_own_module(name: str) -> bool:
    top = name.partition(".")[0]
    files = [file_of(sys.modules.get(each)) for each in (name, top)]
    if name == "__main__" or not any(files):
        return top not in sys.stdlib_module_names
    return is_own_file(next(file for file in files if file))
