"""Ctrl-C deferred to moments at which no operation is half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType, TracebackType

__all__ = ["DeferredInterrupts"]


class DeferredInterrupts:
    """Holds Ctrl-C back, except where it is allowed: a storage interrupted while it writes stays locked.

    A context manager. Within it SIGINT raises `KeyboardInterrupt` inside of `allowed()`, at once or, if it came
    earlier, on entering; elsewhere it waits for that. Outside of the main thread, where Python gives no signals, it
    does nothing.
    """

    def __init__(self) -> None:
        self._pending = False
        self._allowed = False

    def __enter__(self) -> DeferredInterrupts:
        self._installed = threading.current_thread() is threading.main_thread()
        if self._installed:
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the former handler; raise an interrupt that came after the last `allowed()`."""
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)
        if self._pending and kind is None:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def allowed(self) -> Generator[None, None, None]:
        """Let Ctrl-C through."""
        self._allowed = True
        try:
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._allowed:
            self._allowed = False  # a second one must not disturb the cleaning up
            raise KeyboardInterrupt
        self._pending = True
