"""The commands under one name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from steepest._version import __version__
from steepest.cli._compare import compare
from steepest.cli._features import features
from steepest.cli._landing import landing
from steepest.errors import SteepestError

__all__ = ["main"]

app = typer.Typer(
    help="Steepest descent for PyTorch, and a fair trial that tells you which optimizer to use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a `SteepestError` is one line and exit status 2."""
    try:
        app()
    except SteepestError as error:
        print(f"steepest: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _version(asked: bool | None) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = None,
) -> None:
    """Options of every command."""


for command in (compare, landing, features):
    app.command()(command)
