"""The all-reduce of the backend itself, as the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.communication._cost import Cost, checked_size
from steepest.communication._link import Link
from steepest.communication._scheme import Scheme, usable_scale

__all__ = ["AllReduce"]


@dataclass(frozen=True)
class AllReduce(Scheme):
    """The all-reduce of the backend itself (gloo, NCCL), with which the other schemes are compared.

    What it sends is the backend's choice and is not counted message by message: `cost` and `measure` state a
    ring's, 2n(n-1) messages of p/n parameters, which is the least that any all-reduce sends.

    >>> AllReduce().cost(workers=4, parameters=1000).bytes
    24000
    """

    def cost(self, workers: int, parameters: int, dtype: torch.dtype = torch.float32) -> Cost:
        n, p, itemsize = checked_size(workers, parameters, dtype)
        return Cost(2 * n * (n - 1), p / n, 2 * (n - 1) * p * itemsize)

    def sum_(self, flat: Tensor, scale: float, link: Link) -> None:
        flat.mul_(usable_scale(flat, scale))
        if link.size > 1:
            link.all_reduce(flat)
