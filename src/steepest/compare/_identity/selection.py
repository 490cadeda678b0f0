"""The runs of a storage that a comparison may use: those with its own identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna

from steepest.compare._design import Cell, Run
from steepest.compare._identity.identity import Identity, digest

__all__ = ["Past", "Selection"]

_RECORD = "identity "  # how the names of a study's attributes begin
_PART = "part "


@dataclass(frozen=True)
class Past:
    """A finished run of a storage, with the key of its identity and the time when it ended."""

    run: Run
    key: str
    ended: datetime


class Selection:
    """Separates runs of this comparison from others in the same storage, by the identity that each run names.

    A storage keeps identities separate from runs, each under its key, and stores a part (code, data) that several
    identities share only once.

    Args:
        study: The study that holds runs and identities.
        identities: The identity of each cell's runs.
    """

    def __init__(self, study: optuna.Study, identities: Mapping[Cell, Identity]) -> None:
        self._study = study
        self._identities = identities
        self._cells = {_by_name(identity.request): cell for cell, identity in identities.items()}
        self._known: dict[str, Identity | None] = {}
        self._accepts: dict[str, tuple[str, ...]] = {}
        self._equal: dict[str, bool] = {}
        self._last: dict[Cell, str] = {}
        self._accepted: dict[Cell, tuple[str, ...]] = {}

    def includes(self, key: Any) -> bool:
        """Return whether runs under this key are this comparison's own; runs of earlier versions have no key."""
        if not isinstance(key, str):
            return False
        if key not in self._equal:
            identity, cell = self.identity(key), self.cell(key)
            self._equal[key] = identity is not None and cell is not None and self._identities[cell].matches(identity)
        return self._equal[key]

    def accepts(self, key: Any) -> bool:
        """Return whether finished runs under this key are used although their identity differs."""
        return any(key in keys for keys in self._accepted.values())

    def is_left(self, key: str) -> bool:
        """Return whether a key is that of a cell's last other identity, whose runs could be accepted but are not."""
        return not self.accepts(key) and key in self._last.values()

    def differences(self, key: str) -> list[str]:
        """Return in the user's words the differences of this comparison from the runs under a key."""
        identity, cell = self.identity(key), self.cell(key)
        return [] if identity is None or cell is None else self._identities[cell].differences(identity)

    def other_versions(self, key: str) -> list[tuple[str, str]]:
        """Return the packages whose version differs, each with the version of those runs and the present one."""
        identity, cell = self.identity(key), self.cell(key)
        if identity is None or cell is None:
            return []
        here, there = self._identities[cell].versions, identity.versions
        return [(f"{name} {there.get(name)}", f"{name} {here[name]}") for name in here if there.get(name) != here[name]]

    def cell(self, key: Any) -> Cell | None:
        """Return the cell of this comparison with the request of a key, whatever the code and the data were."""
        found = self.identity(key) if isinstance(key, str) else None
        return None if found is None else self._cells.get(_by_name(found.request))

    def identity(self, key: str) -> Identity | None:
        """Return the identity that the storage keeps under a key; None if there is none, or it cannot be read."""
        if key not in self._known:
            attributes = self._study.user_attrs
            for name in attributes:
                if name.startswith(_RECORD):
                    self._read(name.removeprefix(_RECORD), attributes)
        return self._known.setdefault(key, None)

    def look(self, past: Iterable[Past], *, accept_edits: bool) -> None:
        """Find each cell's last other identity among finished runs; use its runs too if edits are accepted.

        The runs that it had accepted itself are used with them, and no others: no interval may mix results of two
        versions of a task that were never accepted as the same.
        """
        for run in sorted(past, key=lambda run: run.ended):
            if (cell := self.cell(run.key)) is not None and not self.includes(run.key):
                self._last[cell] = run.key
        if accept_edits:
            self._accepted = {cell: (key, *self._accepts[key]) for cell, key in self._last.items()}

    def register(self, cell: Cell) -> str:
        """Store a cell's identity, if the storage does not have it yet; return its key."""
        identity = self._identities[cell]
        key = identity.key
        known = self._accepts.get(key, ()) if self.identity(key) else None
        accepts = tuple(dict.fromkeys([*self._accepted.get(cell, ()), *(known or ())]))
        if known != accepts:
            parts = {kind: digest(part) for kind, part in identity.content.items()}
            kept = self._study.user_attrs
            for kind, part in identity.content.items():
                if _PART + parts[kind] not in kept:
                    self._study.set_user_attr(_PART + parts[kind], dict(part))
            record = {
                "request": dict(identity.request),
                "parts": parts,
                "versions": dict(identity.versions),
                "accepts": accepts,
            }
            self._study.set_user_attr(_RECORD + key, record)
            self._known[key], self._accepts[key] = identity, accepts
        return key

    def _read(self, key: str, attributes: Mapping[str, Any]) -> None:
        self._known[key] = None  # an attribute of another program, or damaged: its runs are not used
        try:
            record = attributes[_RECORD + key]
            content = {kind: attributes[_PART + part] for kind, part in record["parts"].items()}
            identity = Identity(request=record["request"], content=content, versions=record["versions"])
            if identity.key == key:
                self._known[key], self._accepts[key] = identity, tuple(map(str, record["accepts"]))
        except (KeyError, TypeError, AttributeError):
            return


def _by_name(request: Mapping[str, str | int]) -> str:
    return digest(dict(request))
