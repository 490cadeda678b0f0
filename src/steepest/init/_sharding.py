"""Parameters of which each process holds a part (DTensor, as `fully_shard` makes them)."""

from __future__ import annotations

import sys
from typing import Any, cast

from torch import Tensor

__all__ = ["is_sharded", "local", "whole", "write"]


def is_sharded(x: Tensor) -> bool:
    """Return whether x is a DTensor; without loading the module where nobody else has."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local(x: Tensor) -> Tensor:
    """Return the part that this process holds, which shares memory with x."""
    return cast("Any", x).to_local() if is_sharded(x) else x


def whole(x: Tensor) -> Tensor:
    """Return all of x: one gather where it is sharded."""
    return cast("Any", x).full_tensor() if is_sharded(x) else x


def write(parameter: Tensor, values: Tensor) -> None:
    """Copy values, which every process holds whole, into a parameter or this process's part of it: no communication."""
    mine = local(parameter)
    values = values.to(device=mine.device, dtype=mine.dtype)
    if is_sharded(parameter):
        from torch.distributed.tensor import DTensor, Replicate

        p = cast("Any", parameter)
        everywhere = DTensor.from_local(values, p.device_mesh, [Replicate()] * p.device_mesh.ndim, run_check=False)
        values = everywhere.redistribute(p.device_mesh, p.placements).to_local()
    mine.copy_(values)
