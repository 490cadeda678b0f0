"""What a command prints on stdout, apart from what a task prints."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator

__all__ = ["prints_to_stderr"]


@contextlib.contextmanager
def prints_to_stderr() -> Generator[None, None, None]:
    """Keep what a task prints, here or in other processes, out of stdout."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # one of the two is closed
            sys.stdout.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
