"""Imports by name: a user's module:attribute, and packages that only an extra installs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from steepest._check import instance
from steepest._contained import contained
from steepest.errors import ImportFailed, MissingExtra

__all__ = ["load_attribute", "loading", "require"]


def require(what: str, *packages: str, extra: str) -> None:
    """Raise `MissingExtra` unless all packages are installed; none of them is imported.

    Args:
        what: What needs the packages, as a singular subject of a sentence.
        *packages: The names under which they are imported.
        extra: The extra of steepest that installs them.

    Raises:
        MissingExtra: If a package is missing.

    >>> require("This", "no_such_package", extra="plot")
    Traceback (most recent call last):
    steepest.errors.MissingExtra: This needs no_such_package, which is not installed. Run pip install 'steepest[plot]'.
    """
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        rule = f"{what} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        raise MissingExtra(rule, remedy=f"Run pip install 'steepest[{extra}]'.")


def _is_installed(package: str) -> bool:
    if sys.modules.get(package) is not None:  # the usual case, and much cheaper than reading the disk
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or a module without a specification stands for it
        return False


def load_attribute(path: str) -> Any:
    """Import `module:attribute`, with the working folder on the module path as `python -m` has it.

    Raises:
        ImportFailed: With the last line of the import's own error.
    """
    module, _, attribute = instance("path", path, str, "a string").partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with loading(path, f"the module of {path}", "module:attribute must be importable from this folder"):
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    return found


@contextlib.contextmanager
def loading(path: str, what: str, rule: str) -> Generator[None]:
    """Turn any exception of user code while it is loaded into `ImportFailed`.

    A working folder that the code changed to is kept, as the code may load files from it later.

    Raises:
        ImportFailed: If the code inside raises anything.
    """
    try:
        with contained(what, ImportFailed, keep_folder=False):
            yield
    except ImportFailed:
        raise
    except Exception as error:
        raise ImportFailed(rule, got=path, remedy=f"It said: {type(error).__name__}: {error}") from error
