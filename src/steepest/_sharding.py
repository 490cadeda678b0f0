"""Parameters of which each process holds a part (DTensor, as `fully_shard` makes them)."""

from __future__ import annotations

import sys
from typing import Any, cast

from torch import Tensor

__all__ = ["is_sharded", "local", "over_all_processes", "part_like", "whole", "whole_like"]


def is_sharded(x: Tensor) -> bool:
    """Return whether x is a DTensor, without loading the module if it is not loaded yet."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local(x: Tensor) -> Tensor:
    """Return the part that this process holds, which shares memory with x."""
    return cast("Any", x).to_local() if is_sharded(x) else x


def whole(x: Tensor) -> Tensor:
    """Return all of x: one gather where it is sharded."""
    return cast("Any", x).full_tensor() if is_sharded(x) else x


def whole_like(part: Tensor, parameter: Tensor) -> Tensor:
    """Return the whole of a tensor that is sharded like the parameter, from this process's part: one gather."""
    if not is_sharded(parameter):
        return part
    from torch.distributed.tensor import DTensor

    p = cast("Any", parameter)
    sharded = DTensor.from_local(
        part, p.device_mesh, p.placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
    )
    return sharded.full_tensor()


def part_like(everything: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's part of a tensor that every process holds whole: no communication."""
    if not is_sharded(parameter):
        return everything
    from torch.distributed.tensor import DTensor, Replicate

    p = cast("Any", parameter)
    everywhere = DTensor.from_local(everything, p.device_mesh, [Replicate()] * p.device_mesh.ndim, run_check=False)
    return everywhere.redistribute(p.device_mesh, p.placements).to_local()


def over_all_processes(count: Tensor, parameter: Tensor) -> Tensor:
    """Return the sum of a number over all processes that hold a part of the parameter: 0 only where it is 0 in all."""
    if not is_sharded(parameter):
        return count
    from torch.distributed.tensor import DTensor, Partial

    mesh = cast("Any", parameter).device_mesh
    return DTensor.from_local(count, mesh, [Partial()] * mesh.ndim, run_check=False).full_tensor()
