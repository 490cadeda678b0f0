"""The location of a storage, a file or a URL, and how it is shown without its password."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url

from steepest._check import instance
from steepest.errors import StorageError

__all__ = ["Location", "exists", "fixed_location", "hide_secrets", "locate", "without_password"]

Location = str | Path
"""A URL as SQLAlchemy reads it, or the path of a SQLite file."""

_HIDDEN = "***"
_SECRET = r"[\w.-]*(?:pass|pwd|secret|token|key|credential|auth)[\w.-]*"
_PAIR = re.compile(rf"(?i)\b({_SECRET}\s*=\s*)('[^']*'|[^&;\s]+)")


def locate(storage: Location) -> URL:
    """Return the URL of a storage; a path is that of a SQLite file, whatever characters it holds.

    Raises:
        InvalidArgument: If it is neither a path nor a text.
        StorageError: If the text is not a URL.
    """
    if isinstance(storage, Path):
        return URL.create("sqlite", database=str(storage.absolute()))
    url = _parsed(instance("storage", storage, str, "a URL or a path"))
    if url is None:
        raise StorageError(
            "the storage must be a URL that SQLAlchemy can read",
            got=without_password(storage),
            remedy="For example sqlite:///trial.db or postgresql://me@host/trial.",
        )
    return url


def fixed_location(storage: Location) -> Location:
    """Return a location that does not depend on the working folder: relative paths of SQLite files become absolute.

    >>> fixed_location("postgresql://me@host/trial")
    'postgresql://me@host/trial'
    """
    if isinstance(storage, Path):
        return storage.absolute()
    url = _parsed(instance("storage", storage, str, "a URL or a path"))
    if url is None or url.get_backend_name() != "sqlite" or "uri" in url.query:
        return storage
    if url.database in (None, "", ":memory:") or Path(url.database).is_absolute():
        return storage
    place = Path(url.database).absolute()
    return url.set(database=str(place)).render_as_string(False) if url.query else place


def exists(storage: Location) -> bool:
    """Return whether a storage may hold something: False for the file of a SQLite database that does not exist."""
    if isinstance(storage, Path):
        return storage.exists()
    url = _parsed(storage)
    if url is None or url.get_backend_name() != "sqlite" or "uri" in url.query:
        return True
    return url.database not in (None, "", ":memory:") and Path(str(url.database)).exists()


def without_password(storage: Location) -> str:
    """Return a location as text in which passwords are replaced by asterisks.

    >>> without_password("postgresql://me:secret@host/trial?sslpassword=secret")
    'postgresql://me:***@host/trial?sslpassword=***'
    >>> without_password("sqlite:///a:b@c/trial.db")
    'sqlite:///a:b@c/trial.db'
    """
    if isinstance(storage, Path):
        return str(storage)
    url = _parsed(instance("storage", storage, str, "a URL or a path"))
    # If it cannot be parsed, or a password holds a bare @, it is unknown where the password ends.
    if url is None or (not url.drivername.startswith("sqlite") and "@" in f"{url.host}{url.database}"):
        scheme = re.match(r"[\w+.-]*://", storage)
        _, at, place = storage.rpartition("@")
        return _PAIR.sub(rf"\1{_HIDDEN}", (scheme.group() if scheme else "") + _HIDDEN + at + place if at else storage)
    if not _secrets(url):
        return storage
    query = {key: _HIDDEN if _is_secret(key, value) else value for key, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True).replace(quote_plus(_HIDDEN), _HIDDEN)


def hide_secrets(text: str, storage: Location) -> str:
    """Return a text, for example of an error or a command line, without the passwords of a storage."""
    if isinstance(storage, Path):
        return text
    text = text.replace(storage, without_password(storage))
    url = _parsed(storage)
    for secret in _secrets(url) if url else ():
        for written in {secret, quote(secret, safe=""), quote(secret, safe="+ "), quote_plus(secret)}:
            # A short secret may occur inside other words.
            pattern = re.escape(written) if len(written) > 3 else rf"(?<!\w){re.escape(written)}(?!\w)"
            text = re.sub(pattern, _HIDDEN, text)
    return text


def _parsed(storage: str) -> URL | None:
    try:
        return make_url(storage)
    except Exception:  # ArgumentError, and ValueError for a port that is no number
        return None


def _is_secret(key: str, value: str | tuple[str, ...]) -> bool:
    values = (value,) if isinstance(value, str) else value
    return bool(re.fullmatch(_SECRET, key, re.IGNORECASE)) or any(_PAIR.search(each) for each in values)


def _secrets(url: URL) -> list[str]:
    found = [] if url.password is None else [str(url.password)]
    for key, value in url.query.items():
        if _is_secret(key, value):
            found += [value] if isinstance(value, str) else value
    return [secret for secret in found if secret]
