"""Learning rate schedules: the factor of the learning rate at each step of a run."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

from steepest._check import at_least, function, in_range
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["SCHEDULES", "Schedule", "check_warmup", "factors", "resolve_schedule", "schedule_name", "warmup_steps"]

Schedule = str | Callable[[float], float]
"""A name in `SCHEDULES`, or a function of progress."""

_COOLDOWN = 0.2
"""The share of a run in which wsd decays, as in Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
Training Durations" (2024)."""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
    "constant": lambda _progress: 1.0,
    "wsd": lambda progress: min(1.0, (1 - progress) / _COOLDOWN),
}
"""By name: the factor of the learning rate as a function of progress, from 0 (the first step) to 1 (after the last).

cosine and linear fall to 0; wsd (warm-up, stable, decay) is constant and falls to 0 linearly in the last fifth. A
warm-up comes before any of them.
"""


def resolve_schedule(schedule: Any) -> Callable[[float], float]:
    """Return the function of progress that a name or a function stands for.

    Raises:
        UnknownName: If there is no schedule of that name.
        InvalidArgument: If it is no function, or does not return a finite number >= 0.

    >>> [round(resolve_schedule("wsd")(progress), 3) for progress in (0, 0.5, 0.9, 1)]
    [1.0, 1.0, 0.5, 0.0]
    """
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise UnknownName.among("schedule", schedule, SCHEDULES, also=", or a function of progress")
        return SCHEDULES[schedule]
    checked = functools.partial(_checked, function("schedule", schedule, remedy=_REMEDY))
    for progress in (0.0, 0.5, 1.0):
        checked(progress)
    return checked


_REMEDY = f"Pass one of {', '.join(SCHEDULES)}, or a function factor(progress) of progress from 0 to 1."


def _checked(schedule: Callable[[float], Any], progress: float) -> float:
    try:
        factor = schedule(progress)
    except TypeError as error:
        raise InvalidArgument("schedule must be a function of progress", got=str(error), remedy=_REMEDY) from error
    remedy = "Return the factor of the learning rate, for example 1 - progress."
    return in_range(f"schedule({progress:g})", factor, "[0, inf)", remedy=remedy)


def schedule_name(schedule: Schedule) -> str:
    """Return the name of a schedule, which for a function is its own.

    >>> schedule_name("cosine"), schedule_name(math.exp)
    ('cosine', 'exp')
    """
    inner = schedule.func if isinstance(schedule, functools.partial) else schedule
    return inner if isinstance(inner, str) else str(getattr(inner, "__name__", type(inner).__name__))


def check_warmup(warmup: Any) -> int | float:
    """Return a warm-up as a whole number of steps, or as a share of the run in (0, 1).

    Raises:
        InvalidArgument: If it is neither, nor text for one of them.

    >>> check_warmup(100), check_warmup(0.05), check_warmup("5%"), check_warmup("100")
    (100, 0.05, 0.05, 100)
    """
    rule = "warmup must be a whole number of steps, or a share of the run in (0, 1) or in percent"
    remedy = 'Pass for example 100, 0.05 or "5%".'
    value = warmup
    if isinstance(warmup, str) and (found := re.fullmatch(r"\s*(\d+|\d*\.\d+)\s*(%?)\s*", warmup)):
        value = float(found[1]) / 100 if found[2] else float(found[1]) if "." in found[1] else int(found[1])
    if isinstance(value, float) and 0 <= value < 1:
        return value or 0
    try:
        return at_least("warmup", value, 0)
    except InvalidArgument as error:
        raise InvalidArgument(rule, got=warmup, remedy=remedy) from error


def warmup_steps(warmup: Any, steps: int) -> int:
    """Return how many of the steps are the warm-up; a share is rounded up.

    Raises:
        InvalidArgument: If it is no warm-up, or as long as the run or longer.

    >>> warmup_steps("5%", 200), warmup_steps(0.1, 30), warmup_steps(0.001, 30)
    (10, 3, 1)
    """
    checked = check_warmup(warmup)
    # A share that is a whole number of steps but for rounding, as 0.1 of 30, is that number.
    found = checked if isinstance(checked, int) else math.ceil(checked * steps - 1e-9 * steps)
    if found and found >= steps:
        raise InvalidArgument(
            "warmup must be shorter than the run",
            got=f"{found} of {steps} steps",
            remedy="Pass fewer, or train for more steps.",
        )
    return found


def factors(schedule: Schedule, warmup: int | float | str, steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the number of earlier steps, 0 to `steps`.

    Over w steps of warm-up it is 1/w, 2/w, ..., 1; the schedule runs over the rest:
    factor(t) = schedule((t - w) / (steps - w)).

    Raises:
        UnknownName: If there is no schedule of that name.
        InvalidArgument: If schedule or warmup is not valid, or the warm-up is as long as the run.

    >>> [round(factors("linear", 2, 6)(t), 2) for t in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    of_progress, warm = resolve_schedule(schedule), warmup_steps(warmup, steps)

    def factor(step: int) -> float:
        return (step + 1) / warm if step < warm else of_progress((step - warm) / (steps - warm))

    return factor
