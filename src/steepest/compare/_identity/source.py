"""The user's own code: its syntax, and the functions that are loaded."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import site
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from steepest.compare._identity.identity import DIGEST

__all__ = [
    "code_digest",
    "codes_of",
    "definitions",
    "functions_of",
    "imported",
    "is_own_file",
    "module_code",
    "own_modules",
    "reachable",
    "shown_file",
]

_MOST_DEFINITIONS = 200  # of a module; one with more counts as a whole
_INSTALLED = ("site-packages", "dist-packages")
_DEBUGGERS = ("pydev", "_pydev", "debugpy")  # an editor loads them from a folder of its own


def own_modules() -> dict[str, ModuleType]:
    """Return every loaded module whose file is outside of the standard library, site-packages and this package.

    An editable installation therefore counts as the user's own. The main module is left out: of a script or notebook,
    only the functions and values that a task uses count (see `Values`), as its last lines call the comparison.
    """
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name not in ("__main__", "__mp_main__", "sitecustomize", "usercustomize")
        and not name.startswith(_DEBUGGERS)
        and (file := file_of(module)) is not None
        and is_own_file(file)
    }


def file_of(module: ModuleType | None) -> str | None:
    """Return the file of a module; None if it has none, or is something that only acts as a module."""
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return file if isinstance(file, str) else None


@functools.cache
def is_own_file(path: str) -> bool:
    """Return whether a file is neither of the standard library, nor installed, nor of this package."""
    parents = Path(os.path.realpath(path)).parents
    return not any(parent.name in _INSTALLED or str(parent) in _FOREIGN for parent in parents)


def _foreign() -> frozenset[str]:
    paths = sysconfig.get_paths()
    known = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    known += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[2])]
    return frozenset(map(os.path.realpath, known))


_FOREIGN = _foreign()


def reachable(roots: Iterable[str], modules: Mapping[str, ModuleType], *, by_name: bool) -> set[str]:
    """Return the modules that can be reached from some of them through imports.

    Args:
        roots: Names of the modules to begin with.
        modules: All modules that count.
        by_name: Whether a name in a function that is the last part of a module's name counts, too: this is how an
            import inside of a function looks.
    """
    found: set[str] = set()
    left = [name for name in roots if name in modules]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [each for each in imported(modules[name]) if each in modules]
            left += _named(modules[name], modules) if by_name else []
            left += [name.rpartition(".")[0]] if name.rpartition(".")[0] in modules else []
    return found


def imported(module: ModuleType) -> Iterator[str]:
    """Yield the modules that a module imports, or from which it holds functions, classes or objects."""
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield value.__name__
        else:
            yield str((value if isinstance(value, type | FunctionType) else type(value)).__module__)


def _named(module: ModuleType, modules: Collection[str]) -> list[str]:
    """Return the modules that functions of a module may import when they are called."""
    names = {
        name for _, function in functions_of(module) for code in codes_of(function.__code__) for name in code.co_names
    }
    return [each for each in modules if each.rpartition(".")[2] in {name.rpartition(".")[2] for name in names}]


def shown_file(module: str, file: str) -> str:
    """Return the name of a module's file, independent of its folder.

    >>> shown_file("pkg.helpers", "/home/me/pkg/helpers.py"), shown_file("pkg", "/home/me/pkg/__init__.py")
    ('pkg/helpers.py', 'pkg/__init__.py')
    """
    path, parts = Path(file), module.split(".")
    return "/".join([*(parts if path.stem == "__init__" else parts[:-1]), path.name])


def module_code(modules: Iterable[tuple[str, ModuleType]]) -> tuple[dict[str, str], list[str]]:
    """Return a digest of each definition of modules, and the files that were edited after they were loaded.

    Of an edited file the functions as they were loaded count, since these are executed.
    """
    found: dict[str, dict[str, str]] = {}
    edited: list[str] = []
    for name, module in sorted(modules, key=lambda pair: pair[0]):
        file = str(module.__file__)
        shown, source = shown_file(name, file), _source(name, module)
        if source is None and not file.endswith(".py"):  # an extension module
            found[shown] = {"": _digest_file(file)}
        elif source is None or not _is_as_loaded(module, source):
            edited.append(shown)
            found[shown] = {f"function {key} as loaded": digest for key, digest in _loaded(module)}
        else:
            found[shown] = definitions(source)
    for shown, parts in found.items():
        if len(parts) > _MOST_DEFINITIONS:
            found[shown] = {"": _digest(repr(sorted(parts.items())))}
    named = {
        (f"{shown}: {key}" if key else shown): text for shown, parts in found.items() for key, text in parts.items()
    }
    return named, edited


@functools.lru_cache(maxsize=1024)
def definitions(source: str) -> dict[str, str]:
    r"""Return a digest of the syntax of each definition at the top of a module, by its name in words.

    Positions, comments and bare strings (docstrings) do not count, nor does code that runs only as a script.

    >>> list(definitions("import torch\nSCALE = 2\ndef loss(a, b): return SCALE * (a - b) ** 2"))
    ['import torch', 'SCALE', 'function loss']
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # they were issued when the module was loaded
            body = ast.parse(source).body
        found: dict[str, list[str]] = {}
        for node in body:
            if not _is_text(node) and not _is_main_block(node):
                found.setdefault(_name(node), []).append(_dump(node))
    except (SyntaxError, ValueError, RecursionError):  # not plain Python, or nested too deep to be walked
        return {"": _digest(source)}
    return {name: _digest("\n".join(parts)) for name, parts in found.items()}


def code_digest(code: CodeType, docstring: str | None = None) -> str:
    """Return a digest of a code object, without line numbers, file names and the docstring."""
    return _digest(_code(code, docstring))


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those of the functions in it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes_of(const)


def _name(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"function {node.name}"
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    if isinstance(node, ast.Import | ast.ImportFrom):
        return ast.unparse(node)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    is_assignment = isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
    return ", ".join(names) if is_assignment and len(names) == len(targets) else "statements"


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")


def _dump(node: Any) -> str:
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        inner = ",".join(f"{name}={_dump(value)}" for name, value in fields if name not in ("ctx", "kind"))
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return f"[{','.join(_dump(each) for each in node if not _is_text(each))}]"
    return repr(node)


def _source(name: str, module: ModuleType) -> str | None:
    loader = getattr(module, "__loader__", None)
    try:
        if hasattr(loader, "get_source"):
            return loader.get_source(name)  # type: ignore[union-attr]
        with tokenize.open(str(module.__file__)) as file:
            return file.read()
    except (ImportError, OSError, SyntaxError, UnicodeError):
        return None


def _digest_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return DIGEST + hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return "a file that is gone"


def _is_as_loaded(module: ModuleType, source: str) -> bool:
    """Return whether every function of a module is in the present source of its file."""
    functions = list(functions_of(module))
    if not functions or type(module.__loader__) is not SourceFileLoader:  # another loader may have rewritten it
        return True
    try:
        with warnings.catch_warnings(action="ignore"):
            code = compile(source, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    known = {_code(each) for each in codes_of(code)}
    return all(_code(function.__code__) in known for _, function in functions)


def _loaded(module: ModuleType) -> Iterator[tuple[str, str]]:
    for name, function in functions_of(module):
        yield name, code_digest(function.__code__, function.__doc__)


def functions_of(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions that a module defines, methods included."""
    seen: set[int] = set()

    def of(holder: Mapping[str, Any]) -> Iterator[tuple[str, FunctionType]]:
        for held in list(holder.values()):
            value: Any = held
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            elif isinstance(value, property):
                value = value.fget
            if isinstance(value, FunctionType) and value.__code__.co_filename == module.__file__:
                yield value.__qualname__, value
            elif isinstance(value, type) and value.__module__ == module.__name__ and id(value) not in seen:
                seen.add(id(value))
                yield from of(vars(value))

    yield from of(vars(module))


def _code(code: CodeType, docstring: str | None = None) -> str:
    consts = list(code.co_consts)
    if docstring is not None and consts and consts[0] == docstring:
        consts[0] = None
    parts = (
        code.co_code.hex(),
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        code.co_exceptiontable.hex(),
        [_constant(const) for const in consts],
    )
    return repr(parts)


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    return repr(value)


def _digest(text: str) -> str:
    return DIGEST + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
