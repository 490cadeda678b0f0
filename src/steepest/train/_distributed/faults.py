"""Faults that a run brings upon itself, to show what they cost."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from steepest._check import at_least, in_range, instance, one_of
from steepest.errors import InvalidArgument

__all__ = ["KINDS", "Fault", "Faults"]

KINDS = ("kill", "stop", "slow")

_FORM = re.compile(r"(?P<worker>\d+|server)@(?P<step>\d+)(?:x(?P<factor>[\d.]+))?(?::(?P<length>[\d.]+)s?)?")
_EXAMPLES = {"kill": "2@50", "stop": "2@50, or 2@50:3s to continue after 3 seconds", "slow": "2@50, or 2@50x10:40"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a worker, and when.

    Args:
        kind: "kill" (the process ends at once, by SIGKILL), "stop" (it is stopped, by SIGSTOP), or "slow" (it waits
            after each gradient, so that computing one takes `factor` times as long).
        worker: The number of the worker; None for a separate parameter server, which can be killed or stopped.
        step: The step, from 0, in which it happens: after the worker's gradient is computed, before it is exchanged.
        length: Seconds after which a stopped worker continues, or steps for which a worker is slow; None for ever.
        factor: How many times as long a slow worker takes, > 1.

    Raises:
        InvalidArgument: If an argument is outside its range.

    >>> Fault.parse("kill", "2@50")
    Fault(kind='kill', worker=2, step=50, length=None, factor=10.0)
    """

    kind: str
    worker: int | None
    step: int
    length: float | None = None
    factor: float = 10.0

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        if self.worker is not None:
            at_least("worker", self.worker, 0)
        elif self.kind == "slow":
            raise InvalidArgument("a slow worker must have a number", got="server", remedy="Slow a worker: 0@50.")
        at_least("step", self.step, 0)
        if self.length is not None:
            in_range("length", self.length, "(0, inf)")
        in_range("factor", self.factor, "(1, inf)")

    @classmethod
    def parse(cls, kind: str, text: str) -> Fault:
        """Return the fault that a text of the form WORKER@STEP means.

        A slow worker's may end in xFACTOR and :STEPS, a stopped worker's in :SECONDS; the worker may be "server".

        Raises:
            InvalidArgument: If the text has another form.
        """
        one_of("kind", kind, KINDS)
        found = _FORM.fullmatch(instance("text", text, str, "a string"))
        given = {name: value for name, value in (found.groupdict() if found else {}).items() if value is not None}
        allowed = {"kill": (), "stop": ("length",), "slow": ("factor", "length")}[kind]
        if not given or any(name in given and name not in allowed for name in ("factor", "length")):
            raise InvalidArgument(
                f"--{kind} must be WORKER@STEP", got=text, remedy=f"For example --{kind} {_EXAMPLES[kind]}."
            )
        worker = None if given["worker"] == "server" else int(given["worker"])
        numbers = {name: float(given[name]) for name in allowed if name in given}
        return cls(kind=kind, worker=worker, step=int(given["step"]), **numbers)


class Faults:
    """The faults that one worker brings about; each kill and each stop strikes once, also if its step is repeated.

    Args:
        faults: The faults of all workers.
        worker: The number of this one.
        server: The process id of the separate server; None without one.
        announce: Called before a process is stopped, with its id and the seconds after which it is to be continued,
            None for never.
    """

    def __init__(
        self,
        faults: tuple[Fault, ...],
        worker: int,
        server: int | None,
        announce: Callable[[int, float | None], object],
    ) -> None:
        self._faults = [each for each in faults if each.worker in (worker, None)]
        self._server, self._announce = server, announce

    def strike(self, step: int, seconds: float, *, leads: bool) -> None:
        """Let happen what is to happen in this step.

        Args:
            step: The step under way.
            seconds: How long this worker has computed its gradient.
            leads: Whether it is the worker that brings about the faults of the server.
        """
        for fault in list(self._faults):
            if fault.kind == "slow":
                if fault.step <= step < fault.step + (fault.length or math.inf):
                    time.sleep(seconds * (fault.factor - 1))
            elif fault.step <= step and (leads or fault.worker is not None):
                self._faults.remove(fault)
                pid = os.getpid() if fault.worker is not None else self._server
                assert pid is not None
                if fault.kind == "stop":
                    self._announce(pid, fault.length)
                with contextlib.suppress(ProcessLookupError):  # the server has died before
                    os.kill(pid, signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
