"""What a started process does before and after its function."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from steepest.communication._channel import Channel

__all__ = ["STARTED", "Raised", "run"]

STARTED = "steepest: the function begins"
_DIE_WITH_PARENT = 1


@dataclass(frozen=True)
class Raised:
    """What the function of a process raised.

    Attributes:
        summary: Its type and message, in one line.
        traceback: The traceback as Python prints it.
        kind: The name of its type.
        time: When, on the clock `time.monotonic`, which all processes of a machine share on Linux.
    """

    summary: str
    traceback: str
    kind: str
    time: float


def run(payload: bytes, connection: Connection, environment: dict[str, str]) -> None:
    """Call a function that was sent here, and report what it raises.

    Args:
        payload: The function and its arguments, pickled.
        connection: This end of the pipe.
        environment: The variables of the process that started this one: a server that forks has older ones.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    # Processes of its own, those of a DataLoader, start as they do elsewhere: through a second server they would not
    # see their parent die, and outlive it.
    multiprocessing.set_start_method(None, force=True)
    channel = Channel(connection)
    try:
        channel.send(STARTED)
        function, args = pickle.loads(payload)
        function(channel, *args)
    except Exception as error:
        summary = " ".join(traceback.format_exception_only(error)[-1].split())
        # Without the frame of this file.
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            error.__traceback__ = error.__traceback__.tb_next
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):
            channel.send(Raised(summary, text, type(error).__name__, time.monotonic()))
        sys.exit(1)


def _end_with_parent() -> None:
    """Let this process end when the one that started it has ended, however that happened.

    The thread sees it everywhere; on Linux the kernel also ends a process that is stopped. (With a server that forks,
    the kernel's parent is the server, which ends with its own parent.)
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        # The server lives as long as anybody holds this pipe, and each of its processes does.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            server: Any = multiprocessing.forkserver._forkserver  # pyright: ignore[reportAttributeAccessIssue]
            os.close(server._forkserver_alive_fd)
            server._forkserver_alive_fd = None
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="ends with its parent").start()
