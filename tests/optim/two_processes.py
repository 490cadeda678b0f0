"""What each of two processes does for test_distributed.py; its findings go into a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

from steepest.errors import NonFiniteGradient
from steepest.norms import L2, Blockwise, LInf, MaxRow, Norm, Spectral, Split
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent, route

Make = Callable[[nn.Module], torch.optim.Optimizer]


def network() -> nn.Sequential:
    """Sizes that two do not divide, one of them 1, so that one process holds nothing of a bias."""
    torch.manual_seed(0)
    layers = [nn.Embedding(11, 6), nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 7), nn.LayerNorm(7), nn.Linear(7, 1)]
    return nn.Sequential(*layers).double()


def by_shape(net: nn.Module, matrices: Norm, **options: Any) -> SteepestDescent:
    groups = [
        {"params": [(n, p) for n, p in net.named_parameters() if p.ndim == 2], "norm": matrices},
        {"params": [(n, p) for n, p in net.named_parameters() if p.ndim < 2], "norm": L2()},
    ]
    return SteepestDescent(groups, lr=0.01, **options)


def blockwise(net: nn.Module) -> SteepestDescent:
    norm = Blockwise({name: to.norm for name, to in route(net).items()}, "max")
    return SteepestDescent(net.named_parameters(), norm, 0.001, momentum=0.9)


MAKERS: dict[str, Make] = {
    "Scion": lambda net: Scion(net, 0.01),
    "Muon": lambda net: Muon(route(net).param_groups(0.01), 0.01),
    "L2": lambda net: SteepestDescent(net.parameters(), L2(), 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "sign": lambda net: SignDescent(net.parameters(), 0.001),
    "sign constrained": lambda net: SignDescent(net.parameters(), 0.001, mode="constrained", momentum=0.9),
    "EpochAdam": lambda net: EpochAdam(net.parameters(), 0.01, steps_per_epoch=2),
    "Blockwise": blockwise,
    "MaxRow": lambda net: by_shape(net, MaxRow(), mode="constrained", momentum=0.9, maximize=True),
    "Spectral": lambda net: by_shape(net, Spectral(exact=True), weight_decay=0.1),
    "Split": lambda net: SteepestDescent(
        [("1.weight", dict(net.named_parameters())["1.weight"])], Split(LInf(), (3, 7)), 0.01, mode="constrained"
    ),
}


def train(run: nn.Module, optimizer: torch.optim.Optimizer, rank: int, world: int) -> None:
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        x = torch.randint(0, 11, (8,), generator=generator)
        y = torch.randn(8, 1, generator=generator, dtype=torch.float64)
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        optimizer.zero_grad()
        (run(x[mine]) - y[mine]).square().mean().backward()
        optimizer.step()


def whole(x: Tensor) -> Tensor:
    return x.detach().full_tensor() if isinstance(x, DTensor) else x.detach()


def sharded(mesh: DeviceMesh) -> nn.Sequential:
    net = network()
    fully_shard(net, mesh=mesh)
    return net


def distance_from_one_process(make: Make, how: str, mesh: DeviceMesh, rank: int, world: int = 2) -> float:
    reference = network()
    train(reference, make(reference), 0, 1)
    net = sharded(mesh) if how == "fully_shard" else network()
    run = net if how == "fully_shard" else DistributedDataParallel(net)
    train(run, make(net), rank, world)
    pairs = zip(net.parameters(), reference.parameters(), strict=True)
    return max(float((whole(p) - q.detach()).abs().max()) for p, q in pairs)


def with_gradients(mesh: DeviceMesh) -> nn.Sequential:
    net = sharded(mesh)
    net(torch.arange(11)).square().mean().backward()
    return net


def nan_on_one_process(nonfinite: str, mesh: DeviceMesh, rank: int) -> str:
    """Return what the step says, or what it changed."""
    net = with_gradients(mesh)
    optimizer = SteepestDescent(net.named_parameters(), L2(), 0.1, momentum=0.9, nonfinite=nonfinite)
    before = {name: whole(p).clone() for name, p in net.named_parameters()}
    if rank == 1:
        net[3].weight.grad.to_local()[0, 0] = torch.nan
    said = ""
    try:
        optimizer.step()
    except NonFiniteGradient as error:
        said = str(error)
    changed = [name for name, p in net.named_parameters() if not torch.equal(whole(p), before[name])]
    if changed or optimizer.state:
        return f"changed {changed}"
    return said


def collectives(norm: Norm, nonfinite: str, mesh: DeviceMesh) -> list[int]:
    """Return how many gathers and how many other collectives a step on three matrices makes."""
    net = with_gradients(mesh)
    matrices = [p for module in net if isinstance(module, nn.Linear) for p in [module.weight]]
    optimizer = SteepestDescent(matrices, norm, 0.1, mode="constrained", momentum=0.9, nonfinite=nonfinite)
    with CommDebugMode() as communication:
        optimizer.step()
    counts = {str(kind): count for kind, count in communication.get_comm_counts().items()}
    gathers = sum(count for kind, count in counts.items() if "all_gather" in kind)
    return [gathers, sum(counts.values()) - gathers]


def buffers_are_sharded_as_their_parameters(mesh: DeviceMesh) -> bool:
    net = with_gradients(mesh)
    optimizer = SteepestDescent(net.parameters(), L2(), 0.1, momentum=0.9)
    optimizer.step()
    buffers = [(p, optimizer.state[p]["momentum_buffer"]) for p in net.parameters()]
    return all(isinstance(b, DTensor) and b.to_local().shape == p.to_local().shape for p, b in buffers)


def cases(rank: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    mesh = init_device_mesh("cpu", (2,))
    for how in ("fully_shard", "DistributedDataParallel"):
        for name, make in MAKERS.items():
            yield f"{name} under {how}", lambda make=make, how=how: distance_from_one_process(make, how, mesh, rank)
    for nonfinite in ("raise", "skip"):
        yield f"NaN, {nonfinite}", lambda nonfinite=nonfinite: nan_on_one_process(nonfinite, mesh, rank)
    yield "Spectral, ignore", lambda: collectives(Spectral(), "ignore", mesh)
    yield "LInf, ignore", lambda: collectives(LInf(), "ignore", mesh)
    yield "LInf, raise", lambda: collectives(LInf(), "raise", mesh)
    yield "buffers", lambda: buffers_are_sharded_as_their_parameters(mesh)


@contextmanager
def process_group(rank: int, folder: Path, world: int = 2) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def find(rank: int, folder: Path) -> None:
    """Run every case and write what it gives to `rank.json`; one that fails ends the process, and with it the test."""
    torch.set_num_threads(1)
    with process_group(rank, folder):
        found = {name: case() for name, case in cases(rank)}
    (folder / f"{rank}.json").write_text(json.dumps(found))
