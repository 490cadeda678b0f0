"""A user's own code, kept from ending the program or moving it to another folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from steepest.errors import SteepestError, TaskError

__all__ = ["contained", "last_line"]


@contextlib.contextmanager
def contained(what: str, error_type: type[SteepestError] = TaskError, *, keep_folder: bool = True) -> Generator[None]:
    """Make an error of what would end the program (SystemExit and its like, but not Ctrl-C), and restore the folder.

    A trial that ends because a task's loss calls sys.exit(0) would look finished, and one whose model changes the
    working folder would look for its files in another one at the second run.

    Args:
        what: Whose code runs, for example "a task's loss".
        error_type: The error that says so.
        keep_folder: Whether the working folder is restored; code that is imported may rely on where it has gone.

    Raises:
        TaskError: Or what `error_type` says, if the code inside tries to end the program.
    """
    folder = None
    with contextlib.suppress(OSError):  # it may have been deleted
        folder = Path.cwd()
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise error_type(
            f"{what} must not end the program",
            got=last_line(error),
            remedy="Take out sys.exit(), exit() and quit(), or keep them under if __name__ == '__main__'.",
        ) from error
    finally:
        if keep_folder and folder is not None:
            with contextlib.suppress(OSError):
                if Path.cwd() != folder:
                    os.chdir(folder)


def last_line(error: BaseException) -> str:
    r"""Return an error as one line, its type first.

    >>> last_line(ValueError("no\nluck"))
    'ValueError: no'
    """
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}".removesuffix(": ")
