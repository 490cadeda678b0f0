"""What worker processes do in the tests of schemes; they return plain data, on which the tests insist."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from steepest.communication import (
    AllReduce,
    AllToAll,
    ParameterServer,
    Ring,
    Scheme,
    _all_to_all,
    _parameter_server,
    _ring,
    measure,
)
from steepest.communication._group import group_of
from steepest.communication._link import Link

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24, torch.float64: 2.0**-53}
SMALLEST = {torch.float16: 2.0**-24, torch.bfloat16: 2.0**-133, torch.float32: 2.0**-149, torch.float64: 2.0**-1074}


def schemes(workers: int) -> list[Scheme]:
    """All schemes of a plain group of so many workers."""
    last = [ParameterServer(workers - 1)] if workers > 1 else []
    return [Ring(), AllToAll(), ParameterServer(0), *last, AllReduce()]


def data(rank: int, parameters: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Numbers of one worker, of very different sizes and of both signs."""
    generator = torch.Generator().manual_seed(1000 * seed + rank)
    spread = {torch.float16: 3.0, torch.bfloat16: 8.0}.get(dtype, 12.0)
    size = torch.exp2(spread * (2 * torch.rand(parameters, generator=generator, dtype=torch.float64) - 1))
    return (size * torch.randn(parameters, generator=generator, dtype=torch.float64)).to(dtype)


def excess(result: Tensor, terms: list[Tensor], weights: list[float]) -> float:
    """By how much an error exceeds its bound, in units of the bound: at most 1 is fine."""
    if not result.numel():
        return 0.0
    n, u = len(terms), UNIT[result.dtype]
    gamma = (n + 1) * u / (1 - (n + 1) * u)
    stacked = torch.stack([w * term.double() for w, term in zip(weights, terms, strict=True)])
    if result.dtype == torch.float64:  # where a sum in float64 would be no reference
        parts = [Fraction(w) for w in weights]
        error = torch.tensor(
            [
                float(Fraction(r) - sum(w * Fraction(x) for w, x in zip(parts, column, strict=True)))
                for r, *column in zip(result.tolist(), *(term.tolist() for term in terms), strict=True)
            ],
            dtype=torch.float64,
        )
    else:
        error = result.double() - stacked.sum(0)
    return float((error.abs() / (gamma * stacked.abs().sum(0) + n * SMALLEST[result.dtype] + 1e-300)).max())


def same_bits(tensor: Tensor, group: Any = None) -> bool:
    """Whether all workers hold the same bits."""
    mine = tensor.contiguous().view(-1).view(torch.uint8)
    everybody = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everybody, mine, group=group)
    return all(torch.equal(other, mine) for other in everybody)


def averages(sizes: list[int], dtypes: list[str], groups: list[int], served: bool = False) -> list[dict[str, Any]]:
    """Average by every scheme, in groups of so many workers or with a server; what was sent, and how exact it is."""
    rank, found = dist.get_rank(), []
    for workers in groups:
        group = None if served else dist.new_group(list(range(workers)))
        if rank >= workers:
            continue
        for scheme in [ParameterServer()] if served else schemes(workers):
            for parameters in sizes:
                for dtype in map(DTYPES.get, dtypes):
                    assert dtype is not None
                    terms = [data(r, parameters, dtype) for r in range(workers)]
                    x = terms[rank].clone()
                    with measure(native=False) as traffic:
                        scheme.average_(x, group=group)
                    found.append(
                        {
                            "case": (repr(scheme), workers, parameters, str(dtype)),
                            "messages": traffic.messages,
                            "bytes": traffic.bytes,
                            "records": [(r.sender, r.receiver, r.bytes) for r in traffic.records],
                            "divisors": traffic.divisors,
                            "cost": scheme.cost(workers, parameters, dtype),
                            "excess": 0.0 if rank else excess(x, terms, [1 / workers] * workers),
                            "same": same_bits(x, group),
                        }
                    )
    return found


def weighted(examples: list[float]) -> dict[str, Any]:
    """Average numbers by numbers of examples, also where a worker without examples holds infinity."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    terms = [data(r, 101, torch.float64) for r in range(workers)]
    weights = [each / sum(examples) for each in examples]
    found: dict[str, Any] = {}
    for scheme in schemes(workers):
        x = terms[rank].clone()
        if examples[rank] == 0:
            x.fill_(float("inf"))
        with measure() as traffic:
            scheme.average_(x, examples=examples[rank])
        found[repr(scheme)] = (excess(x, terms, weights), same_bits(x), traffic.divisors)
    return found


def structures() -> dict[str, Any]:
    """Average tensors of all shapes and kinds; True where the result is the mean, in place, with the same bits."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    mean = (workers - 1) / 2
    found: dict[str, Any] = {}
    for scheme in schemes(workers):

        def full(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full(shape, float(rank), dtype=dtype)

        transposed = full(5, 3).T
        strided = full(4, 6)[:, ::2]
        parameter = torch.nn.Parameter(full(3))
        tensors = [full(2, 3), full(), full(0, 4), transposed, strided, full(7, dtype=torch.float64), parameter]
        tensors += [full(3, dtype=torch.bfloat16), full(1, dtype=torch.float16)]
        with measure() as traffic:
            result = scheme.average_(tensors)
        alone = full(3, 2).T
        found[repr(scheme)] = {
            "the same list": result is tensors,
            "means": all(bool((t == mean).all()) for t in tensors),
            "shapes": [tuple(t.shape) for t in tensors],
            "one bucket per dtype": traffic.messages == 4 * _messages_of_one(scheme),
            "alone": scheme.average_(alone) is alone and bool((alone == mean).all()),
            "tuple": bool((scheme.average_((full(2), full(3)))[1] == mean).all()),
            "nothing": scheme.average_([]) == [],
            "still a leaf": parameter.is_leaf and parameter.requires_grad and parameter.grad is None,
        }
    return found


def _messages_of_one(scheme: Scheme) -> int:
    with measure() as traffic:
        scheme.average_(torch.ones(2))
    return traffic.messages


def extremes() -> dict[str, Any]:
    """Average numbers whose sum would overflow although their mean does not, and numbers that are none."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    found: dict[str, Any] = {}
    for scheme in schemes(workers):
        large = torch.full((100,), 60000.0, dtype=torch.float16)
        scheme.average_(large)
        none = torch.tensor([float("nan") if rank == 0 else 1.0, float("inf") if rank == 1 else 1.0, 2.0])
        scheme.average_(none)
        found[repr(scheme)] = (bool((large == 60000).all()), none.tolist(), same_bits(none))
    return found


def gathered(sizes: list[int]) -> dict[str, Any]:
    """Sum over links whose operations start together, as NCCL's must; True where it is as over links that do not."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    found: dict[str, Any] = {}
    for scheme in schemes(workers):
        for parameters in sizes:
            x = data(rank, parameters, torch.float32)
            expected = x.clone()
            scheme.sum_(expected, 1 / workers, group_of(None).link)
            link = Link(dist.group.WORLD, rank=rank, size=workers)
            link.ahead = False
            with measure(native=False) as traffic:
                scheme.sum_(x, 1 / workers, link)
            found[repr(scheme), parameters] = torch.equal(x, expected), traffic.messages
    return found


def in_pieces() -> dict[str, Any]:
    """Average what is so large that it travels in pieces: the error, and whether all hold the same bits."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    found: dict[str, Any] = {}
    _ring.LEAST_PIECE = _ring.MOST_PIECE = _parameter_server.PIECE_BYTES = _all_to_all.PIECE_BYTES = 4096
    for scheme in schemes(workers):
        x = torch.arange(30_001, dtype=torch.float32).remainder_(1013).add_(rank)
        expected = torch.arange(30_001, dtype=torch.float32).remainder_(1013).add_((workers - 1) / 2)
        with measure(native=False) as traffic:
            scheme.average_(x)
        found[repr(scheme)] = (float((x - expected).abs().max()), same_bits(x), traffic.messages, traffic.bytes)
    return found
