"""The owner of a claimed run, and whether its process is still alive."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from optuna.trial import FrozenTrial

from steepest._alive import is_running, machine, namespace, started

__all__ = ["LEASE_SECONDS", "Owner"]

LEASE_SECONDS = 120.0
"""The time in seconds without a new signature after which a run is given to another owner."""

_SIGNING_SECONDS = 10.0


class Owner:
    """This process as an owner of runs, and as a watcher of the other owners.

    An owner renews its signature at intervals. Clocks are not compared: a watcher waits until a signature has not
    changed for `LEASE_SECONDS` of its own time. Where it can see the owner's process, it need not wait: that is so in
    the same PID namespace of the same machine since the same boot. Host name and process id alone are not enough, as
    containers may share them.

    Args:
        clock: The watcher's time in seconds, which never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._renewals = 0
        self._seen: dict[int, tuple[str, float]] = {}
        self._me: dict[str, Any] = {
            "token": secrets.token_hex(16),
            "host": socket.gethostname(),
            "machine": machine(),
            "namespace": namespace(),
            "pid": os.getpid(),
            "started": started(os.getpid()),
        }

    def signed(self) -> dict[str, Any]:
        """Return the `owner` attribute of a claimed run: the owner, and a counter that differs every time."""
        self._renewals += 1
        return {**self._me, "renewals": self._renewals}

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Return whether this process signed a claimed run."""
        return _owner(trial).get("token") == self._me["token"]

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Return whether the owner of a claimed run is gone; to be called repeatedly."""
        if self.is_mine(trial):
            return False
        # A run has no signature while, or if, its process is stopped between claiming and signing.
        patience = LEASE_SECONDS if "owner" in trial.user_attrs else _SIGNING_SECONDS
        return self._silence(trial) > patience or self._has_ended(_owner(trial))

    def describe(self, trial: FrozenTrial) -> str:
        """Return a sentence on the owner of a claimed run, and on when the run is taken over."""
        owner, silence = _owner(trial), self._silence(trial)
        who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "an unknown process"
        heard = f"not heard of for {silence:.0f} s" if silence > LEASE_SECONDS / 4 else "which is at work"
        return f"{who}, {heard} (after {LEASE_SECONDS:.0f} s of silence its run is taken over)"

    def _silence(self, trial: FrozenTrial) -> float:
        """Return for how many seconds this process has seen a signature unchanged."""
        now, signature = self._clock(), json.dumps(trial.user_attrs.get("owner"))
        before = self._seen.get(trial.number)
        if before is None or before[0] != signature:
            before = self._seen[trial.number] = signature, now
        return now - before[1]

    def _has_ended(self, owner: Mapping[str, Any]) -> bool:
        here = ("machine", "namespace")
        if not all(self._me[key] and owner.get(key) == self._me[key] for key in here):
            return False
        pid = owner.get("pid")
        return isinstance(pid, int) and pid > 0 and not is_running(pid, owner.get("started"))


def _owner(trial: FrozenTrial) -> Mapping[str, Any]:
    owner = trial.user_attrs.get("owner")
    return cast("dict[str, Any]", owner) if isinstance(owner, dict) else {}
