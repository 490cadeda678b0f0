"""What each of two processes does for test_distributed.py; its findings go into a file."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import torch
import torch.distributed as dist
from tests.init.models import GPT, noise, resnet
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from steepest.errors import InvalidArgument
from steepest.init import initialize

MODELS = {"gpt": GPT, "resnet": resnet, "odd": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))}
SCHEMES = ["zero", "constant", "random", "he", "xavier", "orthogonal", "default"]


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]()


def sharded(name: str, mesh) -> nn.Module:
    model = built(name)
    for block in getattr(model, "blocks", []):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def whole(x: torch.Tensor) -> torch.Tensor:
    return x.detach().full_tensor() if isinstance(x, DTensor) else x.detach()


def compare(name: str, scheme: str, mesh) -> str:
    """Return what differs from the model of one process, which is "" if nothing does."""
    deep = name != "odd"
    one, parts = built(name), sharded(name, mesh)
    seeded = [torch.Generator().manual_seed(4) for _ in range(2)]
    tables = [initialize(m, scheme, g, depth_scaled=deep) for m, g in zip((one, parts), seeded, strict=True)]
    if str(tables[0]) != str(tables[1]):
        return f"tables\n{tables[0]}\n{tables[1]}"
    for (key, a), b in zip(one.named_parameters(), parts.parameters(), strict=True):
        if not isinstance(b, DTensor):
            return f"{key} is not sharded"
        if not torch.equal(a.detach(), whole(b)):
            return key
    return ""


def refused(mesh) -> str:
    try:
        initialize(sharded("odd", mesh), "lsuv", data=noise(2, 3))
    except InvalidArgument as error:
        return str(error)
    return ""


def find(rank: int, folder: Path) -> None:
    """Run every case and write what it gives to `rank.json`."""
    torch.set_num_threads(1)
    where = f"file://{folder / 'rendezvous'}"
    limit = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2, timeout=limit)
    try:
        mesh = init_device_mesh("cpu", (2,))
        found: dict[str, object] = {
            f"{name}, {scheme}": compare(name, scheme, mesh) for name in MODELS for scheme in SCHEMES
        }
        found["refused"] = refused(mesh)
        model = built("gpt")
        torch.manual_seed(rank)  # the global generator differs, which must not matter
        initialize(model, "he")
        found["sum"] = [float(p.detach().double().abs().sum()) for p in model.parameters()]
    finally:
        dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found))
