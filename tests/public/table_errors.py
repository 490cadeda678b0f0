"""Rows of steepest.errors."""

from __future__ import annotations

from tests.public.kinds import anything, untried
from tests.public.rows import Result, Row, row

SENTENCE = untried("a sentence of the library's own")

TABLE: dict[str, Row | Result] = {
    "errors.SteepestError": row(
        then=str,
        rule=("x must be 1", SENTENCE),
        got=(2, anything("whatever was received is shown")),
        remedy=("Pass 1.", SENTENCE),
    ),
    "errors.UnknownName.among": row(
        then=str,
        kind=("optimizer", SENTENCE),
        name=("adamv", anything("whatever was received is shown")),
        known=(["adamw", "sgd"], SENTENCE),
        also=("", SENTENCE),
    ),
}
