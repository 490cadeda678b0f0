"""What worker processes do in the tests of arguments that differ, are refused, or never come."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring
from steepest.communication._group import group_of
from steepest.communication._link import Link
from steepest.communication._scheme import Scheme


def _said(call: Any) -> tuple[str, str, float]:
    """What a call raises, and after how many seconds."""
    start = time.monotonic()
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error), time.monotonic() - start
    return "nothing", "", time.monotonic() - start


def differing(served: bool) -> dict[str, Any]:
    """Pass something else on one worker; after each of these, averaging still works."""
    rank = dist.get_rank()
    odd = rank == 1
    scheme = ParameterServer() if served else Ring()
    cases = {
        "size": lambda: scheme.average_(torch.zeros(4 if odd else 3)),
        "shape": lambda: scheme.average_(torch.zeros(2, 3) if odd else torch.zeros(3, 2)),
        "dtype": lambda: scheme.average_(torch.zeros(3, dtype=torch.float64 if odd else torch.float32)),
        "number": lambda: scheme.average_([torch.zeros(3)] * (2 if odd else 1)),
        "scheme": lambda: (AllToAll() if odd else scheme).average_(torch.zeros(3)),
        "server": lambda: ParameterServer(int(odd)).average_(torch.zeros(3)),
        "examples": lambda: scheme.average_(torch.zeros(3), examples=2 if odd else None),
        "no examples": lambda: scheme.average_(torch.zeros(3), examples=0),
        "integers": lambda: scheme.average_(torch.zeros(3, dtype=torch.int64 if odd else torch.float32)),
        "negative": lambda: scheme.average_(torch.zeros(3), examples=-1 if odd else 1),
    }
    found: dict[str, Any] = {}
    for name, call in cases.items():
        found[name] = _said(call)
        x = torch.full((5,), float(rank))
        found[f"after {name}"] = bool((scheme.average_(x) == (dist.get_world_size() - 1) / 2).all())
    return found


def outside() -> dict[str, Any]:
    """Name workers and servers that are not there."""
    rank, world = dist.get_rank(), dist.get_world_size()
    group = dist.new_group([0])
    return {
        "server": _said(lambda: ParameterServer(world).average_(torch.zeros(3))),
        "no server": _said(lambda: ParameterServer().average_(torch.zeros(3))),
        "group": _said(lambda: Ring().average_(torch.zeros(3), group=group)),
        "rank": rank,
    }


def absent(seconds: float) -> tuple[str, str, float]:
    """One worker of a group with a short timeout never calls; it leaves only when the others have given up."""
    group = dist.new_group(timeout=timedelta(seconds=seconds))
    Ring().average_(torch.zeros(3), group=group)
    said = ("nothing", "", 0.0)
    if dist.get_rank() != 1:
        said = _said(lambda: Ring().average_(torch.zeros(3), group=group))
    dist.barrier()
    return said


def one_returns(calls: int, scheme: Scheme) -> None:
    """Worker 1 averages once less often than the others."""
    for _ in range(calls - (dist.get_rank() == 1)):
        scheme.average_(torch.ones(3))


def left_alone() -> dict[str, Any]:
    """Worker 1 closes its connections when the others begin to exchange."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    found: dict[str, Any] = {}
    Ring().average_(torch.zeros(3))
    if rank == 1:
        dist.destroy_process_group()
        return found
    for scheme in (Ring(), AllToAll(), ParameterServer(1)):
        # Not average_: there worker 1 would be missed before anything is sent.
        link = Link(dist.group.WORLD, rank=rank, size=workers, timeout=3)
        found[repr(scheme)] = _said(lambda scheme=scheme, link=link: scheme.sum_(torch.zeros(100_000), 1.0, link))
    return found


def keys_in_the_store(calls: int) -> list[int]:
    """Return how many keys the store has, beyond those of the first call, after each further call."""
    store = group_of(None).store
    scheme = AllReduce() if group_of(None).served is None else ParameterServer()
    counts: list[int] = []
    for _ in range(calls):
        scheme.average_(torch.zeros(1))
        dist.barrier()
        counts.append(store.num_keys())
        dist.barrier()
    return [count - counts[0] for count in counts]
