"""A pipe between a process and the one that started it."""

from __future__ import annotations

import contextlib
import pickle
import threading
from multiprocessing.connection import Connection
from typing import Any

from steepest._importing import require

__all__ = ["Channel"]


class Channel:
    """One end of a pipe, which any thread may use.

    Objects travel by value. Tensors too: multiprocessing's own connections would share their memory, which is gone
    when the sender ends before the receiver has looked.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending, self._receiving = threading.Lock(), threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return (Channel, (self._connection,))

    def send(self, value: Any) -> None:
        """Send an object; BrokenPipeError if the other end is closed."""
        data = _pickled(value)
        with self._sending:
            self._connection.send_bytes(data)

    def recv(self) -> Any:
        """Wait for an object and return it; EOFError if the other end is closed."""
        return pickle.loads(self.recv_bytes())

    def recv_bytes(self) -> bytes:
        """Wait for an object and return it as it travels, pickled; EOFError if the other end is closed."""
        with self._receiving:
            return self._connection.recv_bytes()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether something arrives within some seconds, or at all for None."""
        return self._connection.poll(timeout)

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def fileno(self) -> int:
        """Return the file descriptor, for `multiprocessing.connection.wait`."""
        return self._connection.fileno()


def _pickled(value: Any) -> bytes:
    """Return an object as bytes; a class that was defined in a notebook needs cloudpickle, as its functions do."""
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        with contextlib.suppress(Exception):
            require("A class of this program", "cloudpickle", extra="compare")
            import cloudpickle

            return cloudpickle.dumps(value)
        raise
