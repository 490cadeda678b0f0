"""Lists of tensors as few flat ones: one bucket for each dtype and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steepest import _check
from steepest.errors import InvalidArgument

__all__ = ["Bucket", "buckets_of"]


@dataclass
class Bucket:
    """Tensors of one dtype and device, which travel together.

    Attributes:
        tensors: The tensors, detached from autograd; they share their memory with those of the caller.
    """

    tensors: list[Tensor]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all of them."""
        return self.tensors[0].dtype

    @property
    def numel(self) -> int:
        """The number of parameters, p."""
        return sum(tensor.numel() for tensor in self.tensors)

    def gather(self) -> Tensor:
        """Return the numbers of all tensors, [p]: the memory of a single contiguous tensor itself, else a copy."""
        if len(self.tensors) == 1 and self.tensors[0].is_contiguous():
            return self.tensors[0].view(-1)
        return torch.cat([tensor.reshape(-1) for tensor in self.tensors])

    def scatter(self, flat: Tensor) -> None:
        """Write the numbers back, unless they are in place."""
        if len(self.tensors) == 1 and self.tensors[0].is_contiguous():
            return
        sizes = [tensor.numel() for tensor in self.tensors]
        parts = [part.view(tensor.shape) for part, tensor in zip(flat.split(sizes), self.tensors, strict=True)]
        torch._foreach_copy_(self.tensors, parts)


def buckets_of(tensors: Any, *, alone: bool) -> list[Bucket]:
    """Return the buckets of tensors, in the order in which their dtypes appear.

    Raises:
        InvalidArgument: It is no list of dense floating-point tensors, or one of them cannot be written to.
    """
    if not isinstance(tensors, (list, tuple)):
        remedy = "Pass a tensor, or a list such as [p.grad for p in model.parameters()]."
        raise InvalidArgument("tensors must be a tensor or a list of tensors", got=tensors, remedy=remedy)
    buckets: dict[tuple[torch.dtype, torch.device], Bucket] = {}
    for index, given in enumerate(tensors):
        name = "tensors" if alone else f"tensors[{index}]"
        remedy = "Leave out parameters without a gradient, alike on all workers." if given is None else ""
        tensor = _check.floating(name, given, remedy=remedy).detach()
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            remedy = "Pass the part of this process, with .to_local() or .data."
            raise InvalidArgument(f"{name} must be a plain tensor", got=type(tensor), remedy=remedy)
        if torch._debug_has_internal_overlap(tensor) == 1:
            rule = f"{name} must have memory of its own for every entry"
            raise InvalidArgument(rule, got=tuple(tensor.stride()), remedy="Pass a copy, with .clone().")
        buckets.setdefault((tensor.dtype, tensor.device), Bucket([])).tensors.append(tensor)
    return list(buckets.values())
