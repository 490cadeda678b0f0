"""The database of a storage: inspected before it is written, then opened."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import exc, text
from sqlalchemy.pool import NullPool

from steepest.compare._queue.patience import Patience, WatchedFile, first_line, is_locked
from steepest.compare._queue.url import Location, hide_secrets, locate, without_password
from steepest.errors import SteepestError, StorageError

__all__ = ["broken_row", "open_study", "quiet", "storage_errors"]

_STUDY = "steepest"
_LONGEST_PATH = 500  # bytes; SQLite opens no longer path
_OPTUNAS = {
    "studies",
    "study_directions",
    "study_user_attributes",
    "study_system_attributes",
    "trials",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
    "version_info",
    "alembic_version",
}


class PatientStorage(RDBStorage):
    """Optuna's storage in a database, whose calls are retried while the database is unavailable."""

    def __init__(self, url: str, patience: Patience, **options: Any) -> None:
        self.patience = patience
        super().__init__(url, **options)

    def require_readable(self) -> None:
        """Read the trials one by one.

        Raises:
            StorageError: If one cannot be read, with what can be read of it.
        """
        with self.engine.connect() as connection:
            for key, number in connection.execute(text("SELECT trial_id, number FROM trials")).all():
                try:
                    super().get_trial(key)
                except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                    query = text("SELECT param_name, param_value FROM trial_params WHERE trial_id = :key")
                    found = [f"{name} {value}" for name, value in connection.execute(query, {"key": key})]
                    raise broken_row(number, ", ".join(found), error) from error


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: PatientStorage, *args: Any, **options: Any) -> Any:
        try:
            return self.patience.call(lambda: method(self, *args, **options))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            self.require_readable()
            raise

    return call


# `_get_trials` is what Optuna's cache of finished trials reads with.
for _name in {*BaseStorage.__abstractmethods__, "_get_trials", "get_trial_id_from_study_id_trial_number"}:
    if hasattr(RDBStorage, _name):
        setattr(PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


def open_study(
    location: Location | None, say: Callable[[str], None] = lambda _reason: None
) -> tuple[optuna.Study, Patience]:
    """Open or create the study of a storage; nothing is written to a database that cannot be used.

    Returns:
        The study, and the `Patience` of its storage.

    Raises:
        StorageError: If it cannot be opened, or is not empty and not Optuna's.
    """
    patience = Patience("memory" if location is None else location)
    patience.say = say
    deadline = time.monotonic() + patience.seconds
    for pause in itertools.chain((0.1, 0.5, 2.0), itertools.repeat(None)):
        try:
            storage = None if location is None else _open_storage(location, patience)
            study = optuna.create_study(
                storage=storage,
                study_name=_STUDY,
                sampler=optuna.samplers.RandomSampler(seed=0),
                load_if_exists=True,
            )
        except (exc.OperationalError, exc.ProgrammingError, exc.IntegrityError, StorageInternalError) as error:
            # Two processes that open a new storage at once may create its tables at the same time; and another
            # program may have locked it for a while.
            if pause is None and not (is_locked(error) and time.monotonic() < deadline):
                raise
            if pause is None:
                say("waiting for the storage, which another program has locked")
            time.sleep(pause or 2.0)
        else:
            if pause is None:
                say("")
            patience.opened = True
            if storage is not None:
                patience.close = storage.engine.dispose
            return study, patience
    raise AssertionError("unreachable")


def _open_storage(location: Location, patience: Patience) -> PatientStorage:
    url = locate(location)
    options: dict[str, Any] = {"pool_pre_ping": True}  # a connection that a restarted server has closed is not used
    reading = options
    shown = location if isinstance(location, str) else "sqlite://"
    if url.get_backend_name() == "sqlite":
        (place, *_), connecting = url.get_dialect()().create_connect_args(url)
        if place == ":memory:":
            return PatientStorage(shown, patience)
        if not connecting.get("uri"):
            path = Path(place)
            # With one connection per call, the state of the file is read and not what a connection has cached.
            options = {"poolclass": NullPool, "creator": functools.partial(_connect, path, connecting)}
            shown = "sqlite://"
            _require_sqlite(path)
            patience.file = WatchedFile(path)
            reading = {**options, "creator": functools.partial(_connect_to_read, path, connecting)}
    is_whole = _is_whole_storage(shown, (reading, options), location)
    # Optuna reads a URL as a template. A complete storage gets no more tables: its version is checked first.
    template = shown.replace("{", "{{").replace("}", "}}")
    return PatientStorage(template, patience, engine_kwargs=options, skip_table_creation=is_whole)


def _connect(path: Path, options: Mapping[str, Any], how: str = "mode=rw") -> sqlite3.Connection:
    """Open an existing SQLite file, whatever characters its path holds; a deleted file is not created again."""
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?{how}", **options, uri=True)


def _connect_to_read(path: Path, options: Mapping[str, Any]) -> sqlite3.Connection:
    """Open a SQLite file without creating other files, even where it has a write-ahead log that is not in use."""
    with path.open("rb") as file:
        has_log = file.read(20)[18:] == b"\2\2"
    is_used = Path(f"{path}-wal").exists()
    return _connect(path, options, "mode=ro&immutable=1" if has_log and not is_used else "mode=ro")


def _require_sqlite(path: Path) -> None:
    """Check that a path is that of a SQLite file or an empty one; make an empty one where there is none."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise _cannot_open(path, f"SQLite opens no path of more than {_LONGEST_PATH} bytes")
    if not path.exists():
        with contextlib.suppress(FileExistsError), path.open("xb"):
            return
    if not path.is_file():
        raise _cannot_open(path, "it is not a file")
    with path.open("rb") as file:
        start = file.read(16)
    if start and start != b"SQLite format 3\0":
        raise _cannot_open(path, "it is not a SQLite file")


def _is_whole_storage(url: str, ways: Sequence[Mapping[str, Any]], location: Location) -> bool:
    """Return whether a database is a complete Optuna storage; otherwise it is empty, or was being created.

    Raises:
        StorageError: If it holds the tables of another program.
    """
    for options in ways[:-1]:
        with contextlib.suppress(exc.OperationalError):  # a database half written by a crash cannot be opened read-only
            return _holds_storage(url, options, location)
    return _holds_storage(url, ways[-1], location)


def _holds_storage(url: str, options: Mapping[str, Any], location: Location) -> bool:
    engine = sqlalchemy.create_engine(url, **options)
    try:
        with engine.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            tables = {*inspector.get_table_names(), *inspector.get_view_names()}

            def is_filled(table: str) -> bool:
                return table in tables and connection.execute(text(f"SELECT 1 FROM {table}")).first() is not None

            if tables >= {"studies", "trials", "version_info", "alembic_version"} and is_filled("alembic_version"):
                return True
            if tables <= _OPTUNAS and not is_filled("studies"):
                return False
    finally:
        engine.dispose()
    raise _cannot_open(location, f"it holds {', '.join(sorted(tables - _OPTUNAS)[:3]) or 'tables'} of another program")


@contextlib.contextmanager
def storage_errors(location: Location | None) -> Generator[None, None, None]:
    """Turn errors of a database or its driver while it is opened into one line without the password."""
    try:
        yield
    except SteepestError:
        raise
    except Exception as error:
        place = "memory" if location is None else location
        raise _cannot_open(place, hide_secrets(first_line(error), place)) from error


def _cannot_open(location: Location, why: str) -> StorageError:
    return StorageError(
        "the storage must be a database that Optuna can open and write",
        got=f"{without_password(location)}: {why}",
        remedy="Check it, choose another one, or leave --storage out to use a file in --out.",
    )


def broken_row(number: int, run: str, error: object) -> StorageError:
    """Return the error for a damaged row of a storage."""
    why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}" if isinstance(error, Exception) else error
    return StorageError(
        "every run that a storage holds must be as it was written",
        got=f"trial {number} ({run}): {why}",
        remedy="Delete this trial from the storage, and it is run again; or choose another storage.",
    )


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """Silence Optuna's log lines, and restore its setting afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
