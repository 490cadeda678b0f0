"""Whose a claimed run is, and whether its owner is still there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial

__all__ = ["LEASE_SECONDS", "Lease"]

LEASE_SECONDS = 120.0
"""A run whose owner has not been heard of for so long is given to another."""

_SIGNING_SECONDS = 10.0


@dataclass
class Lease:
    """This process as the owner of runs, known by host and number; times are those of the claiming hosts."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def signed(self) -> dict[str, Any]:
        """Return what a claimed run's `owner` attribute holds: who has it, and that they were alive just now."""
        return {"host": self.host, "pid": self.pid, "seen": time.time()}

    def is_mine(self, owner: Mapping[str, Any]) -> bool:
        """Return whether this process signed it."""
        return (owner["host"], owner["pid"]) == (self.host, self.pid)

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Return whether the owner of a claimed run is gone."""
        owner = trial.user_attrs.get("owner")
        if owner is None:  # its process is, or was stopped, between claiming and signing
            started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            return time.time() - started > _SIGNING_SECONDS
        if owner["host"] == self.host and not _is_alive(owner["pid"]):
            return True
        return time.time() - owner["seen"] > LEASE_SECONDS


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 means something else there; the lease decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
