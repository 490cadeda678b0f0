"""A thread in which a worker waits for others, and which it can abandon."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["ABANDONED", "Runner"]

ABANDONED = "this worker has stopped waiting"


class Runner:
    """Runs one action at a time in a thread of its own.

    When a connection breaks, gloo frees who waits for a message, but not always who waits until a message is taken. So
    the worker's own thread waits here, and goes on without the action where it must. What the action works on belongs
    to it alone.
    """

    def __init__(self) -> None:
        self.is_abandoned = False
        self._actions: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | str | None]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="steepest exchange", daemon=True)
        self.thread.start()

    def run(self, action: Callable[[], Any]) -> tuple[Any, str]:
        """Return the result of an action, and why it failed, in words: "" if it did not.

        What the action raises is raised here, but for the errors of a connection, which are RuntimeErrors.
        """
        self._actions.put(action)
        result, error = self._results.get()
        if isinstance(error, str):
            self.is_abandoned = True
            return None, error
        if error is None:
            return result, ""
        if not isinstance(error, RuntimeError):
            raise error
        lines = str(error).strip().splitlines()
        return None, lines[0] if lines else type(error).__name__

    def abandon(self) -> None:
        """Let `run` return without a result; to be called from another thread."""
        self._results.put((None, ABANDONED))

    def end(self) -> None:
        """Let the thread end, when it is free."""
        self._actions.put(None)

    def _run(self) -> None:
        while (action := self._actions.get()) is not None:
            result, failure = None, None
            try:
                result = action()
            except BaseException as error:
                # Its traceback would keep the connections alive.
                failure = error.with_traceback(None) if isinstance(error, RuntimeError) else error
                failure.__cause__ = failure.__context__ = None
            del action
            self._results.put((result, failure))
            del result, failure
