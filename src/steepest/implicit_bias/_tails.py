"""Whether a schedule brings to rest a rule whose steps do not shrink with the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steepest.errors import InvalidArgument

__all__ = ["Schedule", "Schedules", "Tail", "check_steps", "steps_at", "tail_of"]

Schedule = Callable[[int], float]
"""t = 0, 1, ... -> the size of step t."""
Schedules = Schedule | float | Sequence[Schedule | float]
"""One, or a number for a constant one, or several of both."""

_DENSE = 2**16
_LAST = 2**60
_UNDERFLOW = 1e-16


@dataclass(frozen=True)
class Tail:
    """The properties of a schedule, evaluated at every step up to 2^16 and at 5% intervals up to 2^60.

    A residual that shrinks by the step and changes sign where it is smaller, r' = |r - step|, ends at 0 for every start
    up to `total` exactly if the steps vanish and, after every step, those that follow sum to at least as much (Kakeya's
    condition for subsums to fill an interval). A large sum is not enough: .9 * .4^t sums to 1.5 and stops short of 1.

    Attributes:
        vanishes: Whether the steps go to 0.
        suffices: Whether after each step the following ones sum to at least that step.
        total: A lower bound on the sum of all steps.
        ends: Whether the steps are over (0, or rounding) within the first 2^16.
        constant: Whether all later steps equal the last of the first 2^16.
        steps: The first 2^16 steps, or fewer if the schedule ends before.
        note: Why it does not converge, where it does not.
    """

    vanishes: bool
    suffices: bool
    total: float
    ends: bool
    constant: bool
    steps: NDArray[np.float64]
    note: str

    @property
    def converges(self) -> bool:
        """Whether the schedule brings every residual up to `total` to rest."""
        return self.vanishes and self.suffices


def check_steps(steps: NDArray[np.float64], name: str) -> None:
    """Refuse numbers that are not step sizes.

    Raises:
        InvalidArgument: If one of the numbers is negative or not finite.
    """
    wrong = ~(np.isfinite(steps) & (steps >= 0))
    if wrong.any():
        t = int(np.argmax(wrong))
        raise InvalidArgument(
            "a schedule must return finite steps >= 0",
            got=f"{name}({t}) = {steps[t]}",
            remedy="Try lambda t: .1 / (t + 1).",
        )


def tail_of(schedule: Schedule) -> Tail:
    """Examine whether a schedule converges; one that cannot be seen to converge counts as not converging.

    Raises:
        InvalidArgument: If it returns something that is not a finite number >= 0.
    """
    steps = steps_at(schedule, range(_DENSE))
    check_steps(steps, "schedule")
    if len(steps) < _DENSE:
        return Tail(False, False, float(steps.sum()), False, False, steps, f"it has no value at t = {len(steps)}")
    largest = float(steps.max())
    if steps[-1] <= _UNDERFLOW * largest:
        later = steps_at(schedule, _times(_DENSE, 2**18))
        if (later <= _UNDERFLOW * largest).all() and not (np.diff(steps[_DENSE // 4 :]) > 0).any():
            return _ended(steps, largest)
        return Tail(False, False, float(steps.sum()), False, False, steps, "its steps go up again later on")
    return _endless(schedule, steps, largest)


def _ended(steps: NDArray[np.float64], largest: float) -> Tail:
    rests = np.cumsum(steps[::-1])[::-1]
    after = np.append(rests[1:], 0.0)
    counted = steps > _UNDERFLOW * largest
    short = counted & (steps > after * (1 + 1e-9))
    note = ""
    if short.any():
        t = int(np.argmax(short))
        note = f"all steps after step {t} sum to {after[t]:.3g}, less than that step itself, {steps[t]:.3g}"
    return Tail(True, not short.any(), float(rests[0]), True, False, steps, note)


def _endless(schedule: Schedule, steps: NDArray[np.float64], largest: float) -> Tail:
    total, times = float(steps.sum()), _times(_DENSE, _LAST)
    # From where they are over none is asked for: powers of whole numbers get huge.
    values = steps_at(schedule, times, floor=_UNDERFLOW * largest)
    check_steps(values, "schedule")
    if len(values) and values[-1] <= _UNDERFLOW * largest:
        values = np.append(values, np.zeros(len(times) - len(values)))
    if len(values) < len(times):
        return Tail(False, False, total, False, False, steps, f"it has no value at t = {times[len(values)]}")
    late = np.append(steps[_DENSE // 4 :], values)
    if (np.diff(late) > 0).any():
        return Tail(False, False, total, False, False, steps, "its steps go up again later on")
    # As they only go down, each stretch of the tail sums to at least its length times its last value.
    stretches = np.diff(np.array(times, dtype=np.float64)) * values[1:]
    rests = np.append(np.cumsum(stretches[::-1])[::-1], 0.0)
    vanishes = bool(values[-1] == 0) or _keeps_falling(schedule, values)
    counted = values > _UNDERFLOW * largest
    # Nothing is known after the last stretch.
    counted[-math.ceil(math.log(4) / math.log(1.05)) :] = False
    after = np.append(np.cumsum(steps[::-1])[::-1][1:], 0.0) + rests[0]
    suffices = not bool((counted & (values > rests)).any()) and not bool((steps > after * (1 + 1e-9)).any())
    note = ""
    if not vanishes:
        note = f"its steps do not vanish: {values[-1]:.3g} after 2^60"
    elif not suffices:
        note = "after some step all that follow sum to less than that step itself"
    constant = bool((late[-len(values) - 1000 :] == late[-1]).all())
    return Tail(vanishes, suffices, total + float(rests[0]), False, constant, steps, note)


def _keeps_falling(schedule: Schedule, values: NDArray[np.float64]) -> bool:
    """Return whether the last twenty octaves fall by the same factor each, at least nearly, and so do those to 2^300.

    A power of t does; a schedule that tends to a constant falls less and less, and so does 1 / log t, which cannot be
    distinguished from it.
    """
    octave = math.ceil(math.log(2) / math.log(1.05))
    falls = np.diff(np.log(values[-1::-octave][:21]))
    # A constant that is small beside a slow power shows much later only.
    far = steps_at(schedule, [2**power for power in range(60, 301, 30)])
    further = -np.diff(np.log(far[far > 0]))
    alike = all(bool((each > 1e-3).all() and each.min() >= 0.97 * each.max()) for each in (falls, further) if len(each))
    return alike and len(far) > 2 and bool(values[-1] < values[-2])


def _times(first: int, last: int) -> list[int]:
    """Return times from first to last, 5% apart."""
    times = [first]
    while times[-1] < last:
        times.append(math.ceil(times[-1] * 1.05))
    return times


def steps_at(schedule: Schedule, times: Iterable[int], floor: float = -1.0) -> NDArray[np.float64]:
    """Return the steps at these times, up to the first at which there is none or it is not above the floor.

    Raises:
        InvalidArgument: If it returns no number.
    """
    values: list[float] = []
    try:
        for t in times:
            values.append(float(schedule(t)))
            if values[-1] <= floor:
                break
    except (ArithmeticError, LookupError):
        pass  # it ends here
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(
            "a schedule must return a number for each t = 0, 1, ...",
            got=str(error),
            remedy="Try lambda t: .1 / (t + 1).",
        ) from error
    return np.array(values, dtype=np.float64)
