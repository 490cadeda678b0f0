"""The command line, a thin layer that translates options into calls."""

import sys

from steepest import _importing, errors

__all__ = ["main"]


def main() -> None:
    """Run the command line; a `SteepestError` or a wrong option prints one line and exits with status 2."""
    try:
        _importing.require("The command steepest", "typer", "rich", extra="compare")
        from steepest.cli._main import main as run
    except errors.MissingExtra as error:
        print(f"steepest: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    run()
