"""Limits on evaluations and time that hold inside of any estimator, since the objective itself stops."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Generator
from typing import Any, Literal, NoReturn

import torch

from steepest.estimators._objective import Objective, batched, pointwise
from steepest.estimators._space import Space

__all__ = ["Exhausted", "Meter", "mapped"]

_FUNCTORCH: Any = torch._C.__dict__["_functorch"]

Limit = Literal["evaluations", "seconds"]


class Exhausted(BaseException):
    """A limit is reached. It is no Exception, so that nothing takes it for an error of the objective."""


class Meter:
    """Counts evaluations, and stops the objective where they or the time are used up.

    Args:
        budget: The most evaluations.
        seconds: The time from now on.

    Attributes:
        spent: Evaluations so far.
        ended: Which limit was reached last, also as one that was seen coming; None before.
    """

    def __init__(self, budget: int, seconds: float = math.inf) -> None:
        self.spent = 0
        self.ended: Limit | None = None
        self._budget, self._seconds, self._began = budget, seconds, time.perf_counter()
        self._ceiling, self._deadline = budget, self._began + seconds

    @property
    def left(self) -> int:
        """The evaluations that are left."""
        return self._ceiling - self.spent

    @property
    def seconds_left(self) -> float:
        """The time that is left."""
        return self._deadline - time.perf_counter()

    def charge(self, count: int) -> None:
        """Count evaluations that are about to be made.

        Raises:
            Exhausted: If they are not affordable.
        """
        if time.perf_counter() > self._deadline:
            self._stop("seconds")
        if self.spent + count > self._ceiling:
            self._stop("evaluations")
        self.spent += count

    def _stop(self, limit: Limit) -> NoReturn:
        self.ended = limit
        raise Exhausted

    @contextlib.contextmanager
    def within(self, evaluations: float, seconds: float = 1.0) -> Generator[None]:
        """Allow a share of the evaluations and of the time that are left."""
        before = self._ceiling, self._deadline
        self._ceiling = self.spent + int(self.left * evaluations)
        if math.isfinite(self._deadline):
            self._deadline = time.perf_counter() + self.seconds_left * seconds
        try:
            yield
        finally:
            self._ceiling, self._deadline = before

    def calls(self, wanted: int, evaluations: float, seconds: float) -> int:
        """Return how many of the calls that are wanted are affordable, given what one takes."""
        by_count, by_time = self.left / max(1.0, evaluations), self.seconds_left / max(seconds, 1e-9)
        if min(by_count, by_time) < wanted:
            self.ended = "seconds" if by_time < by_count else "evaluations"
        return max(0, int(min(wanted, by_count, by_time)))

    def told(self) -> str:
        """Return which limit has ended the audit, and what was spent."""
        elapsed = time.perf_counter() - self._began
        spent = f"{self.spent:,} of {self._budget:,} evaluations and {elapsed:.2g} of {self._seconds:g} seconds"
        name = {"seconds": "The time ended it", "evaluations": "The budget ended it", None: "Spent"}[self.ended]
        return f"{name}: {spent}." if self.ended is None else f"{name}, after {spent}."

    def objective(self, objective: Objective, space: Space) -> Objective:
        """Return the objective, called as before, which counts its evaluations and stops at a limit."""
        marked: Any = objective
        kind = getattr(marked, "kind", None)
        if kind not in ("batched", "vmapped", "looped"):
            return _Metered(objective, self, space)
        inner = _Metered(marked.function, self, space)
        if kind == "batched":
            return batched(inner)
        return pointwise(inner, vectorize=kind == "vmapped", chunk=marked.chunk)


class _Metered:
    """An objective that counts, and stops at a limit."""

    def __init__(self, function: Objective, meter: Meter, space: Space) -> None:
        self._function, self._meter = function, meter
        shapes = None if space.named is None else space.point(space.flat)
        self._name = None if shapes is None else next(iter(shapes))
        self._dimensions = len(space.shape) if shapes is None else shapes[self._name].ndim
        functools.update_wrapper(self, function, updated=())
        smoothed: Any = getattr(function, "smoothed", None)
        if callable(smoothed):
            self.smoothed = functools.partial(_smoothed, smoothed, meter, space)

    def __call__(self, x: Any) -> Any:
        tensor = x if self._name is None else x[self._name]
        count = len(tensor) if tensor.ndim > self._dimensions else 1
        self._meter.charge(count * (mapped(tensor) or 1))
        return self._function(x)


def _smoothed(smoothed: Any, meter: Meter, space: Space, sigma: float) -> Objective:
    return meter.objective(smoothed(sigma), space)


def mapped(tensor: Any) -> int | None:
    """Return over how many points torch.vmap maps at present, None outside of it."""
    count = None
    while _FUNCTORCH.is_batchedtensor(tensor):
        inner = _FUNCTORCH.get_unwrapped(tensor)
        count = (count or 1) * inner.shape[_FUNCTORCH.maybe_get_bdim(tensor)]
        tensor = inner
    return count
