"""Evaluates an objective at many points in one call, whichever way it is written."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from steepest import _check
from steepest.errors import EvaluationFailed, InvalidArgument
from steepest.estimators._space import Space

__all__ = [
    "Objective",
    "batched",
    "evaluate",
    "evaluate_pieces",
    "failed",
    "known_kind",
    "one_point",
    "pointwise",
    "value_of",
]

Objective = Callable[[Any], Any]
"""f(points) -> values, or f(point) -> value; see `batched` and `pointwise`."""

Kind = Literal["batched", "vmapped", "looped"]

_recognised: MutableMapping[Any, Kind] = weakref.WeakKeyDictionary()
"""How functions without a mark want to be called, once that is known."""

_CHUNK = 1 << 22
"""Numbers of points that are passed to a function of tensors by name at once."""


class _Marked:
    def __init__(self, function: Objective, kind: Kind, chunk: int | None) -> None:
        self.function, self.chunk = function, chunk
        self.kind: Kind = kind
        functools.update_wrapper(self, function, updated=())

    def __call__(self, x: Any) -> Any:
        return self.function(x)


def batched(objective: Objective) -> Objective:
    """Mark an objective that takes points [samples, *shape] and returns values [samples].

    A function without a mark is called so first, and recognised by the shape of what it returns.

    Raises:
        InvalidArgument: If it is no function.

    >>> f = batched(lambda x: (x**2).sum(-1))
    >>> f(torch.ones(3, 2))
    tensor([2., 2., 2.])
    """
    return _Marked(_check.function("objective", objective), "batched", None)


def pointwise(objective: Objective, *, vectorize: bool = True, chunk: int | None = None) -> Objective:
    """Mark an objective that takes one point, in the structure of x, and returns its value.

    Args:
        objective: f(x) -> a scalar.
        vectorize: Whether `torch.vmap` may call it once for many points; where that fails, it is called for each.
        chunk: The largest number of points in such a call, >= 1; None for no bound.

    Raises:
        InvalidArgument: If an argument is no such thing.

    >>> f = pointwise(lambda x: x[0] * x[1])
    >>> float(f(torch.tensor([2.0, 3.0])))
    6.0
    """
    if chunk is not None:
        _check.at_least("chunk", chunk, 1)
    kind: Kind = "vmapped" if _check.boolean("vectorize", vectorize) else "looped"
    return _Marked(_check.function("objective", objective), kind, chunk)


def evaluate(objective: Objective, space: Space, rows: Tensor, *, differentiable: bool = False) -> Tensor:
    """Return the values [n] of an objective at rows [n, d], with autograd's graph if `differentiable`.

    They have the objective's own data type, but 32 bits at least, and 64 where it returns whole numbers.

    Raises:
        InvalidArgument: If it returns no such values.
        EvaluationFailed: If it raises an error; the error has the values that were found before.
    """
    function, chunk = _check.function("objective", objective), None
    kind: Kind | None = None
    if isinstance(objective, _Marked):
        function, kind, chunk = objective.function, objective.kind, objective.chunk
    elif space.named is not None:
        kind = "vmapped"
    if space.named is not None:
        chunk = min(chunk or len(rows), max(1, _CHUNK // space.size))
    with torch.set_grad_enabled(differentiable):
        if chunk is None or chunk >= rows.shape[0]:
            return _Call(function, kind, space, rows).values()
        found: list[Tensor] = []
        for start in range(0, len(rows), chunk):
            found.append(_Call(function, kind, space, rows, start, start + chunk, found).values())
        return torch.cat(found)


def known_kind(objective: Objective) -> Kind | None:
    """Return how an objective is called, by its mark or as it was recognised; None before that."""
    return objective.kind if isinstance(objective, _Marked) else _known(objective)


def one_point(objective: Objective) -> Objective:
    """Return the objective as a function of one point, which tensors by name are.

    Raises:
        InvalidArgument: If it is marked as one of many points.
    """
    if not isinstance(objective, _Marked):
        return _check.function("objective", objective)
    if objective.kind == "batched":
        raise InvalidArgument(
            "the objective must take one point for so many parameters, whose perturbations are not stored",
            got="one marked by batched",
            remedy="Pass a function of one dict of tensors.",
        )
    return objective.function


def evaluate_pieces(objective: Objective, space: Space, pieces: Iterable[Tensor]) -> Tensor:
    """Return the values at rows that are made piece by piece, since all together would not fit into memory.

    Raises:
        InvalidArgument: As `evaluate`.
        EvaluationFailed: As `evaluate`, with the values of the pieces before.
    """
    found: list[Tensor] = []
    for rows in pieces:
        try:
            found.append(evaluate(objective, space, rows))
        except EvaluationFailed as error:
            if found and error.values is not None:
                error.values, error.points = torch.cat([*found, error.values.to(found[0])]).detach(), None
            raise
    return torch.cat(found) if len(found) > 1 else found[0]


class _Call:
    """The evaluation of rows start to stop, after earlier ones whose values are kept if it fails."""

    def __init__(
        self,
        function: Objective,
        kind: Kind | None,
        space: Space,
        every: Tensor,
        start: int = 0,
        stop: int | None = None,
        before: Sequence[Tensor] = (),
    ) -> None:
        self._function, self._kind, self._space = function, kind, space
        self._every, self._rows, self._before = every, every[start:stop] if start or stop else every, before

    def values(self) -> Tensor:
        kind = self._kind or _known(self._function)
        if kind == "batched":
            return self._batched()
        if kind == "vmapped":
            return self._vmapped(known=self._kind is None)
        if kind == "looped":
            return self._one_by_one(None, batched=False)
        return self._recognise()

    def _recognise(self) -> Tensor:
        """Return the values, and find out how the function wants to be called."""
        rows, space = self._rows, self._space
        # A function of one point may by chance return as many numbers as there are rows: then a number of rows for
        # which it cannot is tried first, which decides, and the others come after.
        fewer = (count for count in range(1, len(rows)) if count not in space.shape)
        first = next(fewer, len(rows)) if len(rows) in space.shape else len(rows)
        try:
            found = _as_values(self._function(space.points(rows[:first].clone())), first, space, or_none=True)
        except Exception as error:
            if not self._takes_one_point():
                return self._one_by_one(error, batched=True)
            found = None
        if found is None:
            # If it does not take a point either, the error says what it returned.
            return self._vmapped(known=True) if self._takes_one_point() else self._batched()
        if first not in space.shape:
            _remember(self._function, "batched")
        if first == len(rows):
            return found
        rest = _Call(self._function, "batched", space, self._every, first, None, [*self._before, found])
        return torch.cat([found, rest.values()])

    def _takes_one_point(self) -> bool:
        try:
            found = self._function(self._space.point(self._rows[0].clone()))
        except Exception:
            return False
        return not isinstance(found, Tensor) or found.ndim == 0

    def _batched(self) -> Tensor:
        try:
            found = self._function(self._space.points(self._rows))
        except Exception as error:
            return self._one_by_one(error, batched=True)
        values = _as_values(found, self._rows.shape[0], self._space)
        assert values is not None
        return values

    def _vmapped(self, *, known: bool) -> Tensor:
        try:
            found = torch.vmap(self._function, randomness="same")(self._space.points(self._rows.clone()))
            values = _as_values(found, self._rows.shape[0], self._space)
        except Exception:  # it looks at numbers, or works in place, or fails at one of the points
            values = self._one_by_one(None, batched=False)
            if known:
                _remember(self._function, "looped")
            return values
        assert values is not None
        if known:
            _remember(self._function, "vmapped")
        return values

    def _one_by_one(self, error: Exception | None, *, batched: bool) -> Tensor:
        """Call the function for each row alone, and keep the values if one of the calls fails."""
        space, found = self._space, list[Tensor]()
        for row in self._rows:
            given = row.clone()  # the function may work in place
            try:
                value = self._function(space.points(given[None]) if batched else space.point(given))
            except Exception as failure:
                self._fail(found, row, error if error is not None and not found else failure)
            try:
                found.append(self._checked(value, batched=batched))
            except InvalidArgument as failure:
                if not found and not self._before:
                    raise
                self._fail(found, row, failure)
        return torch.stack(found)

    def _checked(self, value: Any, *, batched: bool) -> Tensor:
        """Return what the function has returned for one row as a scalar."""
        if not batched:
            return value_of(value, self._space.flat)
        values = _as_values(value, 1, self._space)
        assert values is not None
        return values[0]

    def _fail(self, found: list[Tensor], row: Tensor, error: Exception) -> NoReturn:
        kept = [*self._before, *([torch.stack(found)] if found else [])]
        values = torch.cat(kept).detach() if kept else row.new_empty(0)
        raise failed(error, values, self._space.points(self._every[: len(values)].detach()), self._space.point(row))


def failed(error: Exception, values: Tensor, points: Any, point: Any) -> EvaluationFailed:
    """Return the error of an objective that has failed at a point, with the values that were found before."""
    text = str(error).strip().splitlines()
    made = EvaluationFailed(
        f"the objective must have a value at every point, also at number {len(values) + 1}",
        got=f"{type(error).__name__}: {text[0] if text else ''}".removesuffix(": "),
        remedy="The error has the values before as .values, at .points; it failed at .failed.",
    )
    made.values, made.points, made.failed = values, points, point
    made.__cause__ = error
    return made


def value_of(found: Any, like: Tensor) -> Tensor:
    """Return what an objective has returned for one point as a scalar tensor on the device of `like`.

    Raises:
        InvalidArgument: If it is not one real number.
    """
    value = _as_tensor(found, like.device)
    if value is None or value.ndim or value.is_complex():
        raise InvalidArgument(
            "the objective must return one real number for one point",
            got=_described(found),
            remedy="Return a scalar, for example with .sum() or .mean().",
        )
    return _floating(value)


def _as_values(found: Any, count: int, space: Space, *, or_none: bool = False) -> Tensor | None:
    """Return what an objective has returned for some points as a tensor [count]; or None where it is something else."""
    values = _as_tensor(found, space.device)
    if values is not None and values.ndim == 1 and values.shape[0] == count and not values.is_complex():
        return _floating(values)
    if or_none:
        return None
    raise InvalidArgument(
        f"the objective must return one real number per point, as a tensor of shape ({count},)",
        got=_described(found),
        remedy="Given points [samples, ...], reduce all dimensions but the first; or mark a function of one point with "
        "pointwise(f).",
    )


def _floating(values: Tensor) -> Tensor:
    """Return values with the precision in which they are subtracted: 64 bits for whole numbers, else 32 at least."""
    if values.is_floating_point():
        return values.float() if values.dtype.itemsize < 4 else values
    return values.float() if values.device.type == "mps" else values.double()


def _as_tensor(found: Any, device: torch.device) -> Tensor | None:
    """Return tensors, arrays and numbers of Python, which have 64 bits, as a tensor; None for anything else."""
    if isinstance(found, Tensor):
        return found
    try:
        return torch.as_tensor(np.asarray(found), device=device)
    except Exception:
        return None


def _described(found: Any) -> str:
    if isinstance(found, Tensor) or hasattr(found, "shape"):
        return f"shape {tuple(found.shape)}, {found.dtype}"
    if isinstance(found, Mapping):
        return "a mapping"
    return f"{type(found).__name__}"


def _known(function: Objective) -> Kind | None:
    try:
        return _recognised.get(function)
    except TypeError:  # it cannot be hashed
        return None


def _remember(function: Objective, kind: Kind) -> None:
    try:
        _recognised[function] = kind
    except TypeError:  # no weak reference to it, or no hash
        return
