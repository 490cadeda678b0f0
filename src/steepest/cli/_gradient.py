"""The option --gradient of commands that train."""

from typing import Annotated

import typer

__all__ = ["Gradient"]

Gradient = Annotated[
    str | None,
    typer.Option(
        help="Where gradients come from: {gradients}, with options as score-function:sigma=0.05,samples=20, or "
        "MODULE:ATTR or FILE.py:ATTR. All but backprop and pathwise only evaluate the loss, which needs no derivative.",
        show_default="backprop",
    ),
]
