"""Which batches are compared with plain autograd: the first of a kind, then some."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Sampling"]

_FIRST, _OF = 2, 8
"""The number of batches of each kind that are compared at first, and the interval of those after."""

_KINDS = 1 << 10
"""The number of kinds that are remembered; with more, all start anew."""


@dataclass
class _Kind:
    """Batches of a kind: how many there were, and how many of them since the last that was compared."""

    seen: int = 0
    unseen: int = 0


class Sampling:
    """The kinds of batches that have been compared so far."""

    def __init__(self) -> None:
        self._kinds: dict[int, _Kind] = {}
        self._all = False

    def forget(self) -> None:
        """Begin anew with all kinds."""
        self._kinds.clear()

    def is_due(self, kind: Hashable | None) -> bool:
        """Return whether a batch of this kind is to be compared; one without a kind always is."""
        if kind is None or self._all:
            return True
        if len(self._kinds) >= _KINDS:
            self.forget()
        own = self._kinds.setdefault(hash(kind), _Kind())
        block, place = divmod(own.seen - _FIRST, _OF)
        own.seen += 1
        # The position varies from block to block, so that no periodic loop over batches skips the same batch forever.
        due = block < 0 or place == (5 * block + 3) % _OF
        own.unseen = own.unseen if due else own.unseen + 1
        return due

    def agrees(self, kind: Hashable | None) -> None:
        """Record that a batch of this kind was right."""
        if kind is not None and (own := self._kinds.get(hash(kind))):
            own.unseen = 0

    def disagrees(self, kind: Hashable | None) -> None:
        """Compare all batches from now on, as kinds do not tell what holds; warn where some were not compared."""
        own = None if kind is None else self._kinds.get(hash(kind))
        self._all = True
        if own is not None and own.unseen:
            warnings.warn(
                f"the structure found for other batches fails for one of the same kind; up to {own.unseen} batches "
                "before it were not compared with plain autograd and may be wrong. From now on all are compared.",
                stacklevel=2,
            )
