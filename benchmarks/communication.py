"""What averaging costs: the schemes against gloo's own all-reduce, and as hooks against DistributedDataParallel's.

The processes run on one machine, over its loopback interface. That has no limit per link, so the scheme that moves the
fewest bytes in all wins; on a network, where each link has its own limit, the ring's even load counts
(`benchmarks/network.py` gives each process a link of its own).
"""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.harness import Row, Table, ratio
from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring, Scheme, ddp_hook, launch
from steepest.communication._agreement import agree, described
from steepest.communication._buckets import buckets_of
from steepest.communication._group import group_of

WORKERS = (2, 4)
ROUNDS = {10_000: 60, 100_000: 40, 1_000_000: 30, 10_000_000: 12}
SCHEMES: tuple[Scheme, ...] = (Ring(), AllToAll(), ParameterServer(0), AllReduce())
GLOO = "gloo all_reduce"
Times = dict[str, list[float]]


def run() -> tuple[Table, Table]:
    averaging: list[Row] = []
    for workers in WORKERS:
        for parameters, rounds in ROUNDS.items():
            times = launch(_average, workers, args=(parameters, rounds), timeout=300)[0]
            theirs = times[GLOO]
            agreeing = times.pop("agreeing")
            averaging += [
                (
                    str(workers),
                    f"{parameters:,}",
                    name,
                    f"{statistics.median(ours) * 1e3:.2f}",
                    ratio(ours, theirs) if name != GLOO else "1",
                    "1.3" if name == "Ring()" and parameters >= 1_000_000 else "",
                    f"{statistics.median(agreeing) * 1e3:.2f}" if name == "Ring()" else "",
                )
                for name, ours in times.items()
            ]
    hooks: list[Row] = []
    for workers in WORKERS:
        times = launch(_train, workers, args=(15,), timeout=300)[0]
        theirs = times["DistributedDataParallel"]
        hooks += [
            (str(workers), name, f"{statistics.median(ours) * 1e3:.1f}", "1" if ours is theirs else ratio(ours, theirs))
            for name, ours in times.items()
        ]
    return (
        Table(
            title="What averaging costs",
            method=(
                "One `average_` of p numbers in float32 over n processes of this machine, over gloo's all_reduce of "
                "the same (a sum, without the division of a mean). They take turns; each begins at a barrier, and the "
                "slowest worker counts. Medians over the rounds, of the ratio with its quartiles. `agreeing` is what "
                "of it goes to comparing shapes and dtypes through the store, measured by itself. Loopback has no "
                "limit per link: it shows overhead, not the advantage of a ring." + _priority()
            ),
            columns=("n", "p", "scheme", "ms", "over gloo", "goal <=", "ms agreeing"),
            rows=averaging,
        ),
        Table(
            title="What a hook costs",
            method=(
                "A step of DistributedDataParallel with each scheme as its hook, over the step with its own "
                "all-reduce: an MLP 256-1024-1024-10 of 1.3 million parameters, batch 64, without an optimizer."
            ),
            columns=("n", "gradients by", "ms", "over its own"),
            rows=hooks,
        ),
    )


def _priority() -> str:
    """Say whether the processes, which inherit this one's policy, go before all others on the machine."""
    if not hasattr(os, "sched_getscheduler") or os.sched_getscheduler(0) == os.SCHED_OTHER:
        return ""
    return " The processes had real-time priority, as other work was going on beside them."


def _in_turns(calls: dict[str, Callable[[], Any]], rounds: int, prepare: Callable[[], Any]) -> Times:
    """Time calls in turns, each from a barrier to the end of the slowest worker."""
    times: Times = {name: [] for name in calls}
    names = list(calls)
    for turn in range(-2, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            prepare()
            dist.barrier()
            start = time.perf_counter()
            calls[name]()
            took = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
            dist.all_reduce(took, op=dist.ReduceOp.MAX)
            if turn >= 0:
                times[name].append(took.item())
    return times


def _average(parameters: int, rounds: int) -> Times:
    torch.set_num_threads(1)
    start = torch.randn(parameters, generator=torch.Generator().manual_seed(dist.get_rank()))
    x = start.clone()
    place = group_of(None)

    def agreeing() -> None:
        agree(place, described(Ring(), buckets_of([x], alone=True), None, [x]))

    calls: dict[str, Callable[[], Any]] = {GLOO: lambda: dist.all_reduce(x)}
    calls |= {repr(scheme): lambda scheme=scheme: scheme.average_(x) for scheme in SCHEMES}
    return _in_turns({**calls, "agreeing": agreeing}, rounds, lambda: x.copy_(start))


def _train(rounds: int) -> Times:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    x, y = torch.randn(64, 256), torch.randint(10, (64,))
    calls: dict[str, Callable[[], Any]] = {}
    for scheme in (None, *SCHEMES):
        model = DistributedDataParallel(copy.deepcopy(net))
        if scheme is not None:
            model.register_comm_hook(*ddp_hook(scheme))

        def step(model: nn.Module = model) -> None:
            for parameter in model.parameters():
                parameter.grad = None
            nn.functional.cross_entropy(model(x), y).backward()

        calls["DistributedDataParallel" if scheme is None else repr(scheme)] = step
    return _in_turns(calls, rounds, lambda: None)
