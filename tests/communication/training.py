"""What worker processes do in the tests of training: gradients of shards, and DistributedDataParallel."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from tests.communication.work import schemes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from steepest.communication import ParameterServer, Ring, ddp_hook, measure
from steepest.optim import Muon


def model(dtype: torch.dtype) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return net.to(dtype)


def optimizers(net: nn.Module) -> dict[str, torch.optim.Optimizer]:
    """Those that step on the averaged gradient; each on a copy of its own."""

    weights = [p for p in net.parameters() if p.ndim == 2]
    return {
        "sgd": torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        "adamw": torch.optim.AdamW(net.parameters(), lr=0.01),
        "muon": Muon(weights, lr=0.02),
    }


def batches(dtype: torch.dtype, steps: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(23, 6, generator=generator).to(dtype), torch.randn(23, 3, generator=generator).to(dtype))
        for _ in range(steps)
    ]


def shards(workers: int) -> list[slice]:
    """Unequal parts of 23 examples; a worker may have none."""
    ends = {1: [23], 2: [5, 23], 3: [2, 2, 23], 4: [1, 10, 12, 23]}[workers]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def gradients(net: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    net.zero_grad()
    if len(x):
        ((net(x) - y) ** 2).sum(1).mean().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """Return the distance of two lists of tensors, over the size of the second."""
    first, second = (torch.cat([t.detach().double().flatten() for t in each]) for each in (a, b))
    return float((first - second).norm() / second.norm())


def shard_gradients(dtype: torch.dtype) -> dict[str, float]:
    """Compare averaged gradients of shards with the gradient of the whole batch."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    own, found = shards(workers)[rank], {}
    for scheme in schemes(workers):
        ours, alone = model(dtype), model(dtype)
        (x, y), *_ = batches(dtype, 1)
        local = gradients(ours, x[own], y[own])
        scheme.average_(local, examples=len(x[own]))
        found[repr(scheme)] = distance(local, gradients(alone, x, y))
    return found


def shard_training(dtype: torch.dtype) -> dict[tuple[str, str], Any]:
    """Compare gradients while an optimizer steps on them, and the parameters after the last step."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    own, found = shards(workers)[rank], {}
    for scheme in schemes(workers):
        for name in ("sgd", "adamw", "muon"):
            ours, alone = model(dtype), model(dtype)
            steps = {id(net): optimizers(net)[name] for net in (ours, alone)}
            worst = 0.0
            for x, y in batches(dtype, 5):
                local = gradients(ours, x[own], y[own])
                scheme.average_(local, examples=len(x[own]))
                for parameter, gradient in zip(ours.parameters(), local, strict=True):
                    parameter.grad = gradient
                alone.load_state_dict(ours.state_dict())  # the same point for both, so that only gradients differ
                worst = max(worst, distance(local, gradients(alone, x, y)))
                for net in (ours, alone):
                    steps[id(net)].step()
            found[repr(scheme), name] = worst, distance(list(ours.parameters()), list(alone.parameters()))
    return found


def hooked() -> dict[str, Any]:
    """Train by DistributedDataParallel with each hook, and with its own all-reduce."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    start = model(torch.float32)
    generator = torch.Generator().manual_seed(10 + rank)
    x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)
    found: dict[str, Any] = {}
    reference: list[Tensor] = []
    for scheme in [None, *schemes(workers)]:
        ddp = DistributedDataParallel(copy.deepcopy(start))
        if scheme is not None:
            ddp.register_comm_hook(*ddp_hook(scheme))
        for _ in range(2):  # Then the buckets are arranged anew, and the workers have agreed on them.
            ddp(x).sum().backward()
        with measure() as traffic:
            ddp.zero_grad()
            ((ddp(x) - y) ** 2).mean().backward()
        grads = [p.grad.clone() for p in ddp.parameters() if p.grad is not None]
        reference = reference or grads
        found[repr(scheme)] = {
            "difference": distance(grads, reference),
            "messages": traffic.messages,
            "bytes": traffic.bytes,
            "operations": {record.operation for record in traffic.records},
        }
    return found


def steps() -> dict[str, Any]:
    """Which steps records are of: by themselves, and as the program says."""
    x = torch.ones(2)
    with measure() as counted:
        for _ in range(3):
            Ring().average_([x, x.double()])
    with measure() as outer:
        Ring().average_(x)
        outer.step = 40
        with measure() as inner:
            ParameterServer(0).average_(x)
        outer.step += 1
        Ring().average_(x)
    return {
        "counted": [record.step for record in counted.records],
        "given": [record.step for record in outer.records],
        "inner": [record.step for record in inner.records],
        "divisors": (counted.divisors, outer.divisors),
        "after": (counted.messages, outer.messages, inner.messages),
    }


def collectives() -> dict[str, Any]:
    """What torch's own operations count as, on this worker."""
    rank, n = dist.get_rank(), dist.get_world_size()
    x = torch.ones(10)
    calls = {
        "all_reduce": lambda: dist.all_reduce(torch.ones(10)),
        "all_reduce later": lambda: dist.all_reduce(torch.ones(10), async_op=True).wait(),
        "broadcast": lambda: dist.broadcast(torch.ones(10), 1),
        "reduce": lambda: dist.reduce(torch.ones(10), 1),
        "all_gather": lambda: dist.all_gather([torch.ones(10) for _ in range(n)], x),
        "all_to_all_single": lambda: dist.all_to_all_single(torch.ones(2 * n), torch.ones(2 * n)),
        "gather": lambda: dist.gather(x, [torch.ones(10) for _ in range(n)] if rank == 0 else None),
        "scatter": lambda: dist.scatter(torch.ones(10), [x] * n if rank == 0 else None),
        "send": lambda: dist.send(x, 1) if rank == 0 else dist.recv(torch.ones(10), 0) if rank == 1 else None,
        "barrier": dist.barrier,
        "none": lambda: x + 1,
    }
    found: dict[str, Any] = {}
    for name, call in calls.items():
        with measure() as traffic, measure(native=False) as schemes_only:
            call()
        found[name] = [(r.sender, r.receiver, r.bytes) for r in traffic.records]
        assert schemes_only.messages == 0
    return found
