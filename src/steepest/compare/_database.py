"""The database that a comparison is kept in: how it is opened, and what is said when it cannot be."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Generator

import optuna
from sqlalchemy.exc import IntegrityError, OperationalError

from steepest.errors import StorageError

__all__ = ["open_study", "quiet", "storage_errors", "without_password"]

_STUDY = "steepest"


def open_study(url: str | None) -> optuna.Study:
    """Open the study of a storage, or make it."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    for patience in (0.1, 0.5, 2.0, None):
        try:
            return optuna.create_study(storage=url, study_name=_STUDY, sampler=sampler, load_if_exists=True)
        except (OperationalError, IntegrityError):
            # Two processes that open a new storage at once trip over each other's tables.
            if patience is None:
                raise
            time.sleep(patience)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """Keep Optuna's log lines to itself, and leave its setting as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def storage_errors(url: str | None) -> Generator[None, None, None]:
    """Turn what a database or its driver raises into one line without the password."""
    try:
        yield
    except Exception as error:
        raise StorageError(
            "the storage must be a database that Optuna can open and write",
            got=f"{without_password(url or 'memory')}: {type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="Check the URL and its permissions, or leave --storage out to use a file in --out.",
        ) from error


def without_password(url: str) -> str:
    """Return a storage URL as it may be shown.

    >>> without_password("postgresql://me:secret@host/trial")
    'postgresql://me@host/trial'
    """
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}"
