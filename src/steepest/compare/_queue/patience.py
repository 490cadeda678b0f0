"""Waiting for a database that is unavailable for a short time, and stopping at once where waiting does not help."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from sqlalchemy import exc

from steepest.compare._queue.url import Location, hide_secrets, without_password
from steepest.errors import StorageError

__all__ = ["PATIENCE_SECONDS", "Patience", "WatchedFile", "first_line", "is_locked"]

PATIENCE_SECONDS = 60.0
"""A storage that is unavailable for longer ends the trial."""

_PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0)
# Busy, locked, out of memory, read-only, disk error, full, cannot be opened, and a failing lock protocol. Other errors
# (no such table, a damaged file, not a database) do not pass by themselves.
_PASSING = {5, 6, 7, 8, 10, 13, 14, 15}

T = TypeVar("T")


class WatchedFile:
    """The file of a SQLite database, which must stay the one that was opened.

    SQLite would continue in a deleted file, whose content is lost, and create a new one where it opens it again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b"):  # on a layered file system, opening for writing copies the file
            pass
        found = path.stat()
        self._identity = found.st_dev, found.st_ino

    def require_same(self) -> None:
        """Check that the file is there, is not empty, and is the same."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            happened = "was deleted"
        else:
            if (found.st_dev, found.st_ino) != self._identity:
                happened = "was replaced"
            elif not found.st_size:
                happened = "was emptied"
            else:
                return
        raise StorageError(
            "the storage must stay as it is while a comparison uses it",
            got=f"{self.path} {happened}",
            remedy="Restore a copy, if there is one, and start again; runs that are not in it are made again.",
        )


class Patience:
    """Retries failed calls of a database, with growing pauses, for a minute.

    Attributes:
        seconds: The longest time in seconds for which a storage may be unavailable.
        say: Called with the reason of a wait, and with "" when the wait ends.
        sleep: Pauses; called only where no operation is half done.
        opened: Whether the study was found, so that it must exist from then on.
        close: Closes the connections.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self.file: WatchedFile | None = None
        self.seconds = PATIENCE_SECONDS
        self.say: Callable[[str], None] = lambda _reason: None
        self.sleep: Callable[[float], None] = time.sleep
        self.opened = False
        self.close: Callable[[], None] = lambda: None
        self._thread = threading.local()

    def once(self, function: Callable[[], object]) -> None:
        """Call a function of the storage once and ignore a failure; from any thread."""
        self._thread.inside = True
        try:
            with contextlib.suppress(exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError, KeyError):
                function()
        finally:
            self._thread.inside = False

    def call(self, function: Callable[[], T]) -> T:
        """Call a function of the storage, and retry it where that may help.

        Raises:
            StorageError: If retrying cannot help, or has not helped for a minute.
        """
        if getattr(self._thread, "inside", False):  # only the outermost call is repeated
            return function()
        self._thread.inside = True
        try:
            return self._repeated(function)
        finally:
            self._thread.inside = False

    def _repeated(self, function: Callable[[], T]) -> T:
        pauses = itertools.chain(_PAUSES, itertools.repeat(8.0))
        deadline: float | None = None
        while True:
            try:
                if self.file is not None:
                    self.file.require_same()
                result = function()
            except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
                if isinstance(error, (StorageError, exc.IntegrityError)):
                    raise
                said = hide_secrets(first_line(error), self.location)
                if not _may_pass(error):
                    raise self._error("the storage must stay as it is while a comparison uses it", said) from error
                now = time.monotonic()
                deadline = now + self.seconds if deadline is None else deadline
                if now >= deadline:
                    raise self._error(f"the storage must not be unavailable for {self.seconds:.0f} s", said) from error
                self.say(f"waiting for the storage, for at most {deadline - now:.0f} s more: {said}")
                self.sleep(min(next(pauses), deadline - now))
            except KeyError as error:
                if not self.opened or "Record does not exist" not in str(error):
                    raise
                raise self._error(
                    "the storage must stay as it is while a comparison uses it", "a study or a run was deleted"
                ) from error
            else:
                if deadline is not None:
                    self.say("")
                return result

    def _error(self, rule: str, said: str) -> StorageError:
        return StorageError(
            rule,
            got=f"{without_password(self.location)}: {said}",
            remedy="The runs that it holds are kept; start again when it can be used.",
        )


def is_locked(error: BaseException) -> bool:
    """Return whether another program has locked a SQLite database."""
    return getattr(_innermost(error), "sqlite_errorcode", 0) & 0xFF in (5, 6)


def first_line(error: BaseException) -> str:
    """Return the first line of the database's own error, without the errors that wrap it."""
    cause = _innermost(error)
    text = str(cause).strip() or str(error).strip() or "no reason given"
    return f"{type(cause).__name__}: {text.splitlines()[0]}"


def _innermost(error: BaseException) -> BaseException:
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error


def _may_pass(error: BaseException) -> bool:
    cause = _innermost(error)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _PASSING
    wrapped = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    # A server that restarts, has no connection left or breaks a deadlock raises one of these.
    return isinstance(wrapped, (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, OSError)) or (
        isinstance(wrapped, exc.DBAPIError) and wrapped.connection_invalidated
    )
