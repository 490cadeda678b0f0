"""Weights and gradients of a model, as numbers: norms exactly, updates from a fixed sample of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steepest._series import Array
from steepest._sharding import is_sharded, local, whole

__all__ = ["ParameterRow", "ParameterRows", "ParameterWatch"]

_SAMPLE = 1024
_CHECKPOINTS = 16
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class ParameterRows:
    """The measurements of P parameters at T records.

    Attributes:
        gradient: T x P, ||g||_2; nan where there was no gradient.
        missing: T x P, whether there was no gradient.
        weight: T x P, ||w||_2 after the step; nan where the model did not have the parameter yet.
        update: T x P, ||w_after - w_before|| / ||w_before|| of one step; nan where w_before is 0 or was not seen.
        jump: T x P, the same over all steps since the record before; the first is the update.
        displacement: P, ||w_last - w_first|| / ||w_first||; nan where w_first is 0.
        persistence: The cosine between the displacements of the first and the second half of the run: about 1 if the
            steps keep one direction, 0 for a random walk; nan before the second record.
        absent: T x P, whether the model did not have the parameter yet.
    """

    gradient: Array
    missing: NDArray[np.bool_]
    weight: Array
    update: Array
    jump: Array
    displacement: Array
    persistence: float
    absent: NDArray[np.bool_]


@dataclass(frozen=True)
class ParameterRow:
    """One record, still on its device: norms of gradients and weights, the sample before and after the step."""

    gradient: Tensor
    weight: Tensor
    before: Tensor | None
    after: Tensor


class ParameterWatch:
    """Reads the parameters of a model; leaves the numbers on their device until `flush`.

    A norm costs one pass over memory. A copy of all weights, from which alone an update can be measured exactly,
    costs two more and their memory; so updates are measured on at most 1024 evenly spaced entries of each parameter.
    The relative error of a norm from n independent entries is about 1/sqrt(2 n).
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._count = len(self._parameters)
        self._device = self._parameters[0].device
        self._scattered = len({(p.device, type(p.data)) for p in self._parameters}) > 1
        self._owner: Tensor | None = None
        self._views: list[tuple[Tensor, int]] = []
        self._storages: list[tuple[int, torch.Size]] = []
        self._pending: list[ParameterRow] = []
        self._rows: list[Array] = []
        self._first: Tensor | None = None
        self._last: Tensor | None = None
        self._checkpoints: list[Tensor] = []
        self._spacing = 1
        self._seen = 0

    @torch.no_grad()
    def follow(self, parameters: Sequence[nn.Parameter]) -> None:
        """Watch these parameters from now on: at each old position the same or another one, and new ones after them.

        The displacement of other and new ones starts here; replacing a parameter is not an update.
        """
        self.flush()
        same = torch.tensor([i < self._count and p is self._parameters[i] for i, p in enumerate(parameters)])
        same, owner = same.to(self._device), self._owner
        self._parameters, self._count = list(parameters), len(parameters)
        self._scattered = len({(p.device, type(p.data)) for p in parameters}) > 1
        now = self.sample()
        if owner is None or self._owner is None:
            return
        here, there = same[self._owner], same[owner]

        def carried(old: Tensor) -> Tensor:
            return now.masked_scatter(here, old[there]) if len(old) == len(there) else now

        self._checkpoints = [carried(each) for each in self._checkpoints]
        self._first = None if self._first is None else carried(self._first)
        self._last = None if self._last is None else carried(self._last)

    @torch.no_grad()
    def sample(self) -> Tensor:
        """Return the sampled entries of all parameters, copied, as one vector."""
        tensors = [local(p) for p in self._parameters]
        storages = [(tensor.data_ptr(), tensor.shape) for tensor in tensors]
        if storages != self._storages:
            self._views = [_view(tensor.detach()) for tensor in tensors]
            self._storages = storages
            counts = [_take(view).numel() for view in self._views]
            self._owner = torch.repeat_interleave(torch.tensor(counts, device="cpu")).to(self._device)
        views = [_take(view) for view in self._views]
        return torch.cat([view.to(self._device) for view in views] if self._scattered else views).float()

    @torch.no_grad()
    def weight_norms(self) -> Tensor:
        """Return ||w||_2 of every parameter."""
        return self._norms(self._parameters)

    @torch.no_grad()
    def measure(self, gradients: Sequence[Tensor | None], before: Tensor | None) -> ParameterRow:
        """Return the record of this moment."""
        return ParameterRow(self.gradient_norms(gradients), self.weight_norms(), before, self.sample())

    @torch.no_grad()
    def gradient_norms(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return ||g||_2 of every parameter, -1 where there is no gradient."""
        held = [i for i, g in enumerate(gradients) if g is not None]
        if len(held) == len(gradients):
            return self._norms([g for g in gradients if g is not None])
        norms = torch.full((len(gradients),), -1.0, dtype=torch.float32, device=self._device)
        if held:
            found = self._norms([g for g in gradients if g is not None])
            norms[torch.tensor(held, device=self._device)] = found
        return norms

    def keep(self, row: ParameterRow) -> None:
        """Keep a record."""
        self._pending.append(row)

    def flush(self) -> None:
        """Convert the records to numbers on the host."""
        pending = self._pending
        if not pending:
            return
        first = pending[0].before if pending[0].before is not None else pending[0].after
        previous = [self._last if self._last is not None else pending[0].before, *(p.after for p in pending[:-1])]
        rows = torch.stack(
            [
                torch.stack([p.gradient for p in pending]),
                torch.stack([p.weight for p in pending]),
                self._relative([p.before for p in pending], pending),
                self._relative(previous, pending),
            ],
            dim=1,
        )
        self._rows.extend(np.array(row) for row in rows.tolist())
        self._pending = []
        self._first = first if self._first is None else self._first
        self._last = pending[-1].after
        for each in pending:
            if self._seen % self._spacing == 0:
                self._checkpoints.append(each.after)
            self._seen += 1
            if len(self._checkpoints) > _CHECKPOINTS:
                self._checkpoints = self._checkpoints[::2]
                self._spacing *= 2

    def rows(self) -> ParameterRows:
        """Return all records."""
        self.flush()
        rows = np.full((len(self._rows), 4, self._count), np.nan)
        absent = np.ones((len(self._rows), self._count), dtype=bool)
        for t, row in enumerate(self._rows):
            rows[t, :, : row.shape[1]] = row
            absent[t, : row.shape[1]] = False
        displacement, persistence = self._travel()
        missing = (rows[:, 0] < 0) | absent
        return ParameterRows(
            gradient=np.where(missing, np.nan, rows[:, 0]),
            missing=missing,
            weight=rows[:, 1],
            update=rows[:, 2],
            jump=rows[:, 3],
            displacement=displacement,
            persistence=persistence,
            absent=absent,
        )

    def release(self) -> None:
        """Release every tensor."""
        self._parameters, self._views, self._storages, self._checkpoints, self._pending = [], [], [], [], []
        self._first = self._last = self._owner = None

    def _norms(self, tensors: Sequence[Tensor]) -> Tensor:
        dense = [t.coalesce().values() if t.is_sparse else t for t in tensors]
        half = any(t.dtype in _HALF for t in dense)
        norms: list[Tensor] = list(torch._foreach_norm(dense, 2, torch.float32) if half else torch._foreach_norm(dense))
        if self._scattered or is_sharded(norms[0]):
            norms = [whole(norm).to(self._device) for norm in norms]
        return torch.stack(norms).float()

    def _relative(self, before: Sequence[Tensor | None], pending: Sequence[ParameterRow]) -> Tensor:
        """Return ||after - before|| / ||before|| by parameter, records x parameters; nan where that is not known."""
        after = [p.after for p in pending]
        owner = self._owner
        if owner is None or any(len(sample) != len(owner) for sample in after):  # a parameter has changed its shape
            return torch.full((len(pending), self._count), torch.nan, dtype=torch.float32, device=self._device)
        nothing = torch.full_like(after[0], torch.nan)
        old = torch.stack([nothing if b is None or b.shape != nothing.shape else b for b in before])
        size = self._by_owner(old.square(), owner)
        change = self._by_owner((torch.stack(after) - old).square(), owner)
        return (change / size.where(size > 0, torch.nan)).sqrt()

    def _by_owner(self, entries: Tensor, owner: Tensor) -> Tensor:
        sums = entries.new_zeros(*entries.shape[:-1], self._count)
        return sums.index_add_(entries.ndim - 1, owner, entries)

    def _travel(self) -> tuple[Array, float]:
        first, last, owner = self._first, self._last, self._owner
        if first is None or last is None or owner is None or not len(first) == len(last) == len(owner):
            return np.full(self._count, np.nan), float("nan")
        moved = last - first
        size = self._by_owner(first.square(), owner)
        displacement = (self._by_owner(moved.square(), owner) / size.where(size > 0, torch.nan)).sqrt()
        middle = self._checkpoints[len(self._checkpoints) // 2]
        middle = middle if len(middle) == len(first) else first
        halves = torch.stack([middle - first, last - middle])
        halves = halves / halves.norm(dim=1, keepdim=True)
        return np.array(displacement.tolist()), float(halves[0] @ halves[1])


def _view(tensor: Tensor) -> tuple[Tensor, int]:
    """Return entries of a tensor as a view, and 0; the tensor and a stride where no view has them in one axis."""
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    # An odd stride, so that a matrix is not sampled in few of its columns.
    stride = -(-tensor.numel() // _SAMPLE) | 1
    ordered = tensor.permute(sorted(range(tensor.ndim), key=lambda d: -tensor.stride(d)))
    return (ordered.view(-1)[::stride], 0) if ordered.is_contiguous() else (ordered, stride)


def _take(view: tuple[Tensor, int]) -> Tensor:
    tensor, stride = view
    return tensor.flatten()[::stride] if stride else tensor
