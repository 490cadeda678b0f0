"""Which process runs where, so that its end can be seen from another one on the same machine."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["is_running", "machine", "namespace", "started"]


def machine() -> str:
    """Return an identifier of this machine since its last boot; "" if there is none."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        return boot.read_text().strip()
    node = uuid.getnode()
    is_made_up = node >> 40 & 1  # then it differs from process to process
    return "" if is_made_up or Path("/proc/self").exists() else f"{node:x}"


def namespace() -> str:
    """Return the PID namespace of this process; "" if unknown, "all" where there are no namespaces."""
    if not Path("/proc/self").exists():
        return "" if os.name == "nt" else "all"  # on Windows, signal 0 would end a process
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def started(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; "" if it is unknown or the process has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]


def is_running(pid: int, start: object) -> bool:
    """Return whether the process that had this id, and started then ("" if that is unknown), still runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # a process of another user, which may be hidden
    return not start or started(pid) == start
