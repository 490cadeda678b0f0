"""The entry point of all commands."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from steepest._version import __version__
from steepest.cli._compare import compare
from steepest.cli._features import features
from steepest.cli._implicit_bias import implicit_bias
from steepest.cli._train import train
from steepest.cli._verdict import verdict
from steepest.errors import SteepestError, WorkerFailed

__all__ = ["main"]

app = typer.Typer(
    help="Steepest descent for PyTorch, and a fair trial that tells you which optimizer to use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


# What typer raises for a wrong option; only its subclass has a public name.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; a `SteepestError` or a wrong option prints one line and exits with status 2."""
    with contextlib.suppress(AttributeError, ValueError):  # stdout was replaced by another stream
        # After hours of training, a name that a terminal cannot show must not be an error.
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        status = app(standalone_mode=False)
    except WorkerFailed as error:
        if error.__cause__ is not None:
            print(str(error.__cause__).strip(), file=sys.stderr)  # noqa: T201 - the traceback of another process
        _refuse(str(error))
    except SteepestError as error:
        _refuse(str(error))
    except typer.Abort:
        sys.exit(1)
    except _UsageError as error:
        _refuse(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]
    else:
        sys.exit(status or 0)


def _refuse(text: str) -> NoReturn:
    # Without a command, typer's message is the help.
    print(text if "Usage:" in text else f"steepest: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201
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


class _Command(TyperCommand):
    """A command whose help lists the registered names for {tasks}, {optimizers}, {inits}, {schedules}, {gradients}."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from steepest.compare import CANDIDATES  # torch and more, which only the help of a trial needs
        from steepest.estimators import SOURCES
        from steepest.init import SCHEMES
        from steepest.tasks import TASKS
        from steepest.train import SCHEDULES

        registries = {
            "tasks": TASKS,
            "optimizers": CANDIDATES,
            "inits": SCHEMES,
            "schedules": SCHEDULES,
            "gradients": SOURCES,
        }
        names = {name: ", ".join(registry) for name, registry in registries.items()}
        for parameter in self.params:
            if text := getattr(parameter, "help", None):
                parameter.help = text.format_map(names)  # pyright: ignore[reportAttributeAccessIssue]
        super().format_help(ctx, formatter)


for command in (compare, verdict, train, implicit_bias, features):
    app.command(cls=_Command)(command)
