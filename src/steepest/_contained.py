"""User code, kept from ending the program or changing its working folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from steepest.errors import SteepestError, TaskError

__all__ = ["contained", "last_line"]


@contextlib.contextmanager
def contained(what: str, error_type: type[SteepestError] = TaskError, *, keep_folder: bool = True) -> Generator[None]:
    """Turn exceptions that would end the program (such as SystemExit, but not Ctrl-C) into errors; restore the folder.

    A trial that ends because a task's loss calls sys.exit(0) would look finished, and if a model changed the working
    folder, the second run would not find its files.

    Args:
        what: The user code that runs, for example "a task's loss".
        error_type: The type of the error that is raised.
        keep_folder: Whether the working folder is restored; imported code may rely on the folder that it changed to.

    Raises:
        TaskError: Or `error_type`, if the code inside tries to end the program.
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
