"""Which process a worker is, so that others on its host can prove its death."""

from __future__ import annotations

import os
from dataclasses import dataclass

from steepest._alive import is_running, machine, namespace, started

__all__ = ["Identity", "watch"]


@dataclass(frozen=True)
class Identity:
    """A process, among all that ever ran on one machine since it was booted.

    Attributes:
        machine: An identifier of the machine since its boot; "" if there is none.
        namespace: The process's PID namespace; "" if it is unknown.
        pid: The process id in that namespace.
        started: When it started, in clock ticks since the boot; "" if that is unknown.
    """

    machine: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def own(cls) -> Identity:
        """Return the identity of this process."""
        return cls(machine(), namespace(), os.getpid(), started(os.getpid()))

    def is_visible_to(self, other: Identity) -> bool:
        """Return whether the other process can see whether this one runs."""
        here = (self.machine, self.namespace)
        return all(here) and here == (other.machine, other.namespace)

    def has_ended(self) -> bool:
        """Return whether a visible process is gone."""
        return not is_running(self.pid, self.started)


def watch(identity: Identity) -> int | None:
    """Return a file descriptor that becomes readable when a visible process ends; None where there is none.

    Where it is None, the process has either ended already or must be looked up again and again.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if identity.has_ended():  # the number belongs to another process by now
        os.close(descriptor)
        return None
    return descriptor
