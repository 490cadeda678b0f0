"""The steps after which a run is validated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steepest._check import at_least

__all__ = ["validation_steps"]


def validation_steps(asked: int | Sequence[int] | None, own: int | Sequence[int], steps: int) -> frozenset[int]:
    """Return the steps after which to validate; the last one is always among them.

    Args:
        asked: The largest number of validations, evenly spaced, or the steps; None for the task's own.
        own: The task's own, of which steps beyond the end are left out: a run may be shorter.
        steps: The number of training steps.

    Raises:
        InvalidArgument: If the number is less than 1, or a step outside of the run.
    """
    if asked is None:
        asked = own if isinstance(own, int) else [step for step in own if step <= steps]
    if not isinstance(asked, Sequence):
        every = math.ceil(steps / at_least("validations", asked, 1))
        return frozenset({*range(every, steps, every), steps})
    for step in asked:
        at_least("validations after the start", step, 1, most=steps, remedy="The start is validated anyway.")
    return frozenset({*asked, steps})
