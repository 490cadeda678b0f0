"""An objective that counts its evaluations, and keeps the points and values of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steepest.estimators._auditing.meter import mapped
from steepest.estimators._objective import Objective, batched, evaluate, pointwise
from steepest.estimators._space import Space

__all__ = ["Watched"]

_FUNCTORCH: Any = torch._C.__dict__["_functorch"]

_KEPT = 1 << 20
"""Numbers of points that are kept."""


class Watched:
    """Calls an objective for one point or for many, whichever the estimator under audit passes.

    Args:
        objective: As a user has written it.
        space: The structure of a point.

    Attributes:
        count: Points at which it was evaluated so far.
        keep: Whether points and values are kept.
        rows: The points that were kept, each [n, d].
        values: Their values, each [n].
        dtype: The data type in which points and values are kept.
    """

    def __init__(self, objective: Objective, space: Space) -> None:
        self._objective, self._space = objective, space
        self.count, self.keep = 0, False
        self.rows: list[Tensor] = []
        self.values: list[Tensor] = []
        self.dtype = torch.float64

    @property
    def looped(self) -> bool:
        """Whether the objective is to be called for one point at a time."""
        return getattr(self._objective, "kind", None) == "looped"

    @property
    def objective(self) -> Objective:
        """The function that is passed to the estimator; it may be called with points [samples, ...] or with one."""
        if self.looped:
            return pointwise(self, vectorize=False)
        # Tensors by name are vmapped by estimators, and passed as they are to those that store no perturbations.
        return self if self._space.named is not None else batched(self)

    def clear(self) -> None:
        """Forget the points and values."""
        self.rows, self.values = [], []

    def __call__(self, x: Any) -> Tensor:
        """Return the values at x, which is one point or has one more dimension."""
        rows, single = self._rows(x)
        found = evaluate(self._objective, self._space, rows, differentiable=torch.is_grad_enabled())
        together = mapped(rows)
        self.count += len(rows) * (together or 1)
        if self.keep and sum(map(torch.numel, self.rows)) < _KEPT:
            most = max(1, _KEPT // self._space.size)
            self.rows.append(_plain(rows).detach().reshape(-1, self._space.size)[:most].to(self.dtype))
            self.values.append(_plain(found).detach().reshape(-1)[:most].to(self.dtype))
        return found[0] if single else found

    def _rows(self, x: Any) -> tuple[Tensor, bool]:
        space = self._space
        if space.named is None:
            single = x.ndim == len(space.shape)
            rows = x.reshape(1 if single else len(x), -1)
            return rows.to(space.flat.dtype), single
        given: Mapping[str, Tensor] = x
        shapes = space.point(space.flat)
        first = next(iter(shapes))
        single = given[first].ndim == shapes[first].ndim
        count = 1 if single else len(given[first])
        parts = [given[name].reshape(count, -1).to(space.flat.dtype) for name in shapes]
        return torch.cat(parts, dim=1), single


def _plain(tensor: Tensor) -> Tensor:
    """Return a tensor without the wrappers of torch.vmap and torch.func.grad."""
    while _FUNCTORCH.is_batchedtensor(tensor) or _FUNCTORCH.is_gradtrackingtensor(tensor):
        if _FUNCTORCH.is_batchedtensor(tensor):
            dimension = _FUNCTORCH.maybe_get_bdim(tensor)
            tensor = _FUNCTORCH.get_unwrapped(tensor).movedim(dimension, 0)
        else:
            tensor = _FUNCTORCH.get_unwrapped(tensor)
    return tensor
