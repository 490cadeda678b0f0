"""Imports by name: a user's module:attribute, and packages that only an extra installs."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, NoReturn

from steepest._check import instance
from steepest._contained import contained, last_line
from steepest.errors import ImportFailed, MissingExtra, SteepestError

__all__ = ["load_attribute", "loading", "own_place", "require"]


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
    """Import `module:attribute`, or `file.py:attribute` with a path to the file.

    The working folder is on the module path as `python -m` has it. A file's folder is too (of a file in a package, the
    folder of the package), so that other processes find the module by its name.

    Raises:
        ImportFailed: If there is no such module, file or attribute, with the nearest names; or with the file, the line
            and the error of the user's code that failed.
    """
    module, _, attribute = instance("path", path, str, "a string").rpartition(":")
    file = _file(module)
    if file is not None:
        module = _named(file)
    else:
        _look_in(Path.cwd())
    with loading(path, f"the module of {path}"):
        found = importlib.import_module(module) if module else _missing(path, "no module", "Try mine:task.")
        if file is not None and not _is_of(found, file):
            _missing(path, f"another module {module}", f"Rename {file.name}: that name is taken.")
        for part in attribute.split("."):
            if not hasattr(found, part):
                of = f"module {module}" if found is sys.modules.get(module) else path.rpartition(f".{part}")[0]
                _missing(path, f"{of} has no attribute {part!r}", _nearest(part, dir(found)))
            found = getattr(found, part)
    return found


def _file(module: str) -> Path | None:
    """Return the file that a path names, None for a module's name.

    Raises:
        ImportFailed: If there is no such file.
    """
    if not (module.endswith(".py") or any(mark in module for mark in (os.sep, os.altsep) if mark)):
        return None
    file = Path(module).expanduser()
    file = file if file.suffix == ".py" else file.with_name(f"{file.name}.py")
    if file.is_file():
        return file.resolve()
    nearby = [str(each) for each in file.parent.glob("*.py")] if file.parent.is_dir() else []
    raise ImportFailed("there is no such file", got=module, remedy=_nearest(str(file), nearby))


def _named(file: Path) -> str:
    """Return the name under which a file can be imported, and make it importable."""
    name, folder = file.stem, file.parent
    while (folder / "__init__.py").exists() and folder != folder.parent:
        name, folder = f"{folder.name}.{name}", folder.parent
    _look_in(folder)
    return name


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _is_of(module: Any, file: Path) -> bool:
    found = getattr(module, "__file__", None)
    return isinstance(found, str) and Path(found).resolve() == file


def _missing(path: str, got: str, remedy: str) -> NoReturn:
    raise ImportFailed(f"{path} must name something that can be imported", got=got, remedy=remedy)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [each for each in known if not each.startswith("__")], n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else "Look at its name."


@contextlib.contextmanager
def loading(path: str, what: str) -> Generator[None]:
    """Turn any exception of user code while it is loaded into `ImportFailed`, which says where it was raised.

    A working folder that the code changed to is kept, as the code may load files from it later.

    Raises:
        ImportFailed: If the code inside raises anything.
    """
    try:
        with contained(what, ImportFailed, keep_folder=False):
            yield
    except SteepestError:
        raise
    except ModuleNotFoundError as error:
        module = path.rpartition(":")[0]
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise _of_user(path, error) from error
        nearby = [f"{file.stem}:{path.rpartition(':')[2]}" for file in Path.cwd().glob("*.py")]
        raise ImportFailed(
            f"{path} must be a module or a file, and something in it, as mine:task or ./mine.py:task",
            got=f"{last_line(error)} in this folder",
            remedy=_nearest(path, nearby),
        ) from error
    except Exception as error:
        raise _of_user(path, error) from error


def _of_user(path: str, error: Exception) -> ImportFailed:
    """Return an error of the user's code with the file and the line of its innermost own frame."""
    if place := own_place(error):
        return ImportFailed(f"{place}: {last_line(error)}", remedy=f"It was raised by loading {path}.")
    return ImportFailed(f"{path} must load without an error", got=last_line(error), remedy="Try it by hand.")


def own_place(error: BaseException) -> str:
    """Return the file and the line of the innermost frame of the user's own code, "" if an error has none."""
    place = None
    if isinstance(error, SyntaxError) and error.filename is not None:
        place = error.filename, error.lineno
    else:
        for frame, line in traceback.walk_tb(error.__traceback__):
            if _is_own(frame.f_code.co_filename):
                place = frame.f_code.co_filename, line
    if place is None:
        return ""
    file = Path(place[0])
    with contextlib.suppress(ValueError):
        file = file.relative_to(Path.cwd())
    return f"{file}, line {place[1]}"


def _is_own(file: str) -> bool:
    """Return whether a file is neither of Python, nor installed, nor of this library."""
    if file.startswith("<") or not Path(file).is_file():
        return False
    paths = sysconfig.get_paths()
    others = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")] + [str(Path(__file__).parent)]
    return not any(Path(file).resolve().is_relative_to(Path(other).resolve()) for other in others)
