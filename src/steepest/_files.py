"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from steepest._check import instance
from steepest.errors import OutputError

__all__ = ["folder_name", "require_writable", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all.

    Raises:
        OutputError: If it cannot be written.
        InvalidArgument: If path is not a `pathlib.Path`, or text not a string.
    """
    instance("path", path, Path, "a pathlib.Path")
    instance("text", text, str, "a string")
    partial = path
    try:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A path or a name may hold a byte that is not UTF-8; results of hours of work are written all the same.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a path without a name, or with a zero byte
        if partial != path:
            with contextlib.suppress(OSError, ValueError):
                partial.unlink()
        raise OutputError(
            "the output must be writable",
            got=f"{path}: {getattr(error, 'strerror', None) or error}",
            remedy="Choose a folder that you can write to.",
        ) from error


def require_writable(folder: Path) -> None:
    """Make a folder and try to write in it, before hours are spent on results for it.

    Raises:
        OutputError: If it cannot be made or written.
        InvalidArgument: If folder is not a `pathlib.Path`.
    """
    probe = instance("folder", folder, Path, "a pathlib.Path") / f".probe.{os.getpid()}"
    try:
        write_text(probe, "")
    except OutputError as error:
        raise OutputError(
            error.rule, got=str(error.got).replace(str(probe), str(folder)), remedy=error.remedy
        ) from error
    probe.unlink()


def folder_name(name: str) -> str:
    """Return a name as that of one folder: without separators, and not hidden.

    >>> folder_name("../own task"), folder_name("..")
    ('-own task', 'task')
    """
    return re.sub(r"[/\\\0]", "-", name).lstrip(".") or "task"
