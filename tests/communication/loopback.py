"""How many bytes pass over the loopback interface, against the payload: a program for a network of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.communication.work import schemes

from steepest.communication import ParameterServer, launch, measure

REPEATS = 3


def passed() -> int:
    """Bytes that the interface has received so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    raise LookupError("there is no interface lo")


def ratios(parameters: int, served: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    workers = dist.get_world_size()
    for scheme in [ParameterServer()] if served else schemes(workers)[:-1]:
        x = torch.ones(parameters)
        scheme.average_(x)
        dist.barrier()
        before = passed()
        dist.barrier()
        with measure(native=False) as traffic:
            for _ in range(REPEATS):
                scheme.average_(x)
        dist.barrier()
        after = passed()
        payload = torch.tensor(sum(r.bytes for r in traffic.records))
        dist.barrier()
        dist.all_reduce(payload)
        found[repr(scheme)] = (after - before, payload.item(), REPEATS * scheme.cost(workers, parameters).bytes)
        dist.barrier()
    return found


if __name__ == "__main__":
    everything = []
    for n in (2, 3, 4):
        everything.append(launch(ratios, n, args=(1_000_000, False), timeout=60)[0])
        everything.append(launch(ratios, n, ParameterServer(), args=(1_000_000, True), timeout=60)[0])
    json.dump(everything, sys.stdout)
