"""The command line: thin, it only translates."""

from steepest.cli._main import main

__all__ = ["main"]
