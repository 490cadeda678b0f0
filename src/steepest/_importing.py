"""Packages that only an extra brings: asked for before they are imported, so that one line says how to install them."""

from __future__ import annotations

import importlib.util
import sys

from steepest.errors import MissingExtra

__all__ = ["require"]


def require(what: str, *packages: str, extra: str) -> None:
    """Raise `MissingExtra` unless all packages are installed; none of them is imported.

    Args:
        what: What needs them, as the subject of a sentence in the singular.
        *packages: Their names as they are imported.
        extra: The extra of steepest that brings them.

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
    if sys.modules.get(package) is not None:  # the usual case, and much cheaper than a look at the disk
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or a module without a specification stands for it
        return False
