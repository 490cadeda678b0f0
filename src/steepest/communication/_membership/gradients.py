"""Gradients as flat tensors of the group's own, and what all members must agree on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from steepest.errors import InvalidArgument

__all__ = ["NONE", "Gradients"]

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NONE = (-1,) * (len(DTYPES) + 1)
"""What a separate server says of its gradients."""


class Gradients:
    """A private copy of gradients: one flat tensor for each dtype.

    The exchange works on the copy, so that a message which comes too late can never change a gradient.

    Args:
        counts: The number of parameters for each of `DTYPES`.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.flat = {
            dtype: torch.empty(count, dtype=dtype) for dtype, count in zip(DTYPES, counts, strict=True) if count > 0
        }

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Copy gradients."""
        for dtype, flat in self.flat.items():
            parts = flat.split([tensor.numel() for tensor in tensors if tensor.dtype == dtype])
            for part, tensor in zip(parts, (tensor for tensor in tensors if tensor.dtype == dtype), strict=True):
                part.view(tensor.shape).copy_(tensor)

    def give(self, tensors: Sequence[Tensor]) -> None:
        """Copy the result to where the gradients were."""
        for dtype, flat in self.flat.items():
            parts = flat.split([tensor.numel() for tensor in tensors if tensor.dtype == dtype])
            for part, tensor in zip(parts, (tensor for tensor in tensors if tensor.dtype == dtype), strict=True):
                tensor.copy_(part.view(tensor.shape))

    @staticmethod
    def signature(tensors: Sequence[Tensor]) -> tuple[int, ...]:
        """Return the number of parameters for each of `DTYPES`, and a number that stands for all shapes."""
        counts = [sum(tensor.numel() for tensor in tensors if tensor.dtype == dtype) for dtype in DTYPES]
        shapes = repr([(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors])
        return (*counts, zlib.crc32(shapes.encode()))

    @classmethod
    def agreed(cls, signatures: Sequence[Sequence[int]], workers: Sequence[int]) -> Gradients:
        """Return memory for gradients of which all workers, by rank, said the same."""
        by_workers = [tuple(signature) for signature in signatures if tuple(signature) != NONE]
        if len(set(by_workers)) > 1:
            told = [f"worker {worker}: {sum(row[:-1])}" for worker, row in zip(workers, by_workers, strict=False)]
            raise InvalidArgument(
                "tensors must have the same shapes and dtypes on all workers",
                got="; ".join(told) + " numbers",
                remedy="Build the same model on every worker.",
            )
        return cls(by_workers[0][:-1])
