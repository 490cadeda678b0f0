"""Timed averagings: what a prediction is fitted to."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist

from steepest import _check
from steepest.communication._all_reduce import AllReduce
from steepest.communication._all_to_all import AllToAll
from steepest.communication._group import group_of
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._ring import Ring
from steepest.communication._scheme import Scheme
from steepest.errors import InvalidArgument

__all__ = ["Measurement", "measure_cluster"]

SIZES = (1, 1_000, 10_000, 100_000, 1_000_000)
BLOCK = 0.02
"""Seconds that one block of averagings is meant to take."""

BLOCKS = 15
"""The most blocks of one scheme and size."""


@dataclass(frozen=True)
class Measurement:
    """How long one averaging took.

    Attributes:
        scheme: What averaged.
        workers: n.
        parameters: p.
        seconds: The time of one averaging.
        dtype: The type of a parameter.
        hosts: On how many machines the workers ran; None: each on one of its own.

    >>> from steepest.communication import Ring
    >>> Measurement(Ring(), workers=4, parameters=1000, seconds=0.001).hosts is None
    True
    """

    scheme: Scheme
    workers: int
    parameters: int
    seconds: float
    dtype: torch.dtype = torch.float32
    hosts: int | None = None

    def __post_init__(self) -> None:
        _check.instance("scheme", self.scheme, Scheme, "a scheme", remedy="Try Ring().")
        _check.at_least("workers", self.workers, 1, most=10**9)
        _check.at_least("parameters", self.parameters, 0, most=10**18)
        self.scheme.cost(self.workers, 0)  # It refuses a server outside of the workers.
        _check.in_range("seconds", self.seconds, "(0, inf)")
        _check.instance("dtype", self.dtype, torch.dtype, "a torch.dtype", remedy="Try torch.float32.")
        if self.hosts is not None:
            _check.at_least("hosts", self.hosts, 1, most=self.workers)


def measure_cluster(
    schemes: Sequence[Scheme] | None = None,
    parameters: Sequence[int] = SIZES,
    workers: Sequence[int] | None = None,
    *,
    seconds: float = 1.5,
) -> list[Measurement]:
    """Time averagings within torch's default process group; every rank calls it, and gets the same list.

    As in nccl-tests, averagings follow one another without a barrier, in blocks of at least 20 ms where one takes less;
    a block's time is that of the slowest rank. Schemes and sizes take turns until the time is used up, and the median
    over the blocks counts. What is timed is the exchange itself (`sum_`): `average_` adds a comparison of the workers'
    arguments, which does not depend on the size. More time makes the result steadier.

    Args:
        schemes: What to time; by default all-to-all, a parameter server on rank 0, ring, and the backend's all-reduce.
        parameters: The sizes p, of float32.
        workers: The numbers n of workers, each of the first n ranks; by default the whole group.
        seconds: About how long it may take. Every scheme and size is timed once at the least.

    Returns:
        One measurement for every scheme, size and number of workers.

    Raises:
        InvalidArgument: An argument is out of its range, or there is no process group.
    """
    sizes = [_check.at_least("parameters", p, 1, most=10**10) for p in _listed("parameters", parameters)]
    _check.in_range("seconds", seconds, "(0, inf)")
    chosen = (
        [AllToAll(), ParameterServer(server=0), Ring(), AllReduce()] if schemes is None else _listed("schemes", schemes)
    )
    for scheme in chosen:
        _check.instance("schemes", scheme, Scheme, "schemes", remedy="Try [Ring(), AllToAll()].")
    if not (dist.is_available() and dist.is_initialized()):
        rule = "measure_cluster must be called within a process group of torch.distributed"
        raise InvalidArgument(rule, remedy="Call launch(measure_cluster, workers=4).")
    world = dist.get_world_size()
    counts = [world] if workers is None else [
        _check.at_least("workers", n, 1, most=world) for n in _listed("workers", workers)
    ]  # fmt: skip
    for scheme in chosen:
        if isinstance(scheme, ParameterServer) and scheme.server is None:
            rule = "schemes must be such as need no separate server"
            raise InvalidArgument(rule, got=scheme, remedy="Try ParameterServer(server=0).")
        scheme.cost(min(counts), 0)  # It refuses a server outside of the workers.
    machines = _machines()
    found: list[Measurement] = []
    for n in counts:
        group: Any = dist.group.WORLD if n == world else dist.new_group(list(range(n)))
        times: list[list[float]] = []
        if dist.get_rank() < n:
            times = _timed(cast("list[Scheme]", chosen), sizes, group, seconds / len(counts))
        shared: list[Any] = [times]
        dist.broadcast_object_list(shared, src=0)
        cases = [(scheme, p) for p in sizes for scheme in chosen]
        hosts = len(set(machines[:n]))
        for (scheme, p), each in zip(cases, shared[0], strict=True):
            found.append(Measurement(scheme, n, p, statistics.median(each), torch.float32, hosts))
        if n != world and dist.get_rank() < n:
            dist.destroy_process_group(group)
    return found


def _timed(schemes: list[Scheme], sizes: list[int], group: Any, budget: float) -> list[list[float]]:
    """Return the times of blocks, for every size and scheme; the same on every rank of the group."""
    cases = [(scheme, torch.ones(p)) for p in sizes for scheme in schemes]
    times: list[list[float]] = [[] for _ in cases]
    calls = [1] * len(cases)
    link, scale = group_of(group).link, 1 / dist.get_world_size(group)
    started, used = time.perf_counter(), 0.0
    for turn in range(BLOCKS + 1):
        for index, (scheme, tensor) in enumerate(cases):
            if turn > 1 and used > budget:
                return times
            dist.barrier(group)
            begun = time.perf_counter()
            for _ in range(calls[index]):
                scheme.sum_(tensor, scale, link)
            now = time.perf_counter()
            # All ranks decide by the same numbers: the slowest one's.
            slowest = torch.tensor([(now - begun) / calls[index], now - started], dtype=torch.float64)
            dist.all_reduce(slowest, dist.ReduceOp.MAX, group=group)
            each, used = slowest.tolist()
            if turn > 0:
                times[index].append(each)
            # The first turn connects pairs and touches memory, and tells how long a block will be.
            remaining = max(budget - used, 0.0) / len(cases)
            calls[index] = max(1, min(int(min(BLOCK, remaining / 2) / each), 200))
    return times


def _machines() -> list[str]:
    """Return the name of every rank's machine."""
    names: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(names, socket.gethostname())
    return [str(name) for name in names]


def _listed(name: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple, range)) or not values:
        raise InvalidArgument(f"{name} must be a list that is not empty", got=values, remedy="Pass a list.")
    return list(cast("Sequence[Any]", values))
