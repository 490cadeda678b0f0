"""What torch's own collective operations send, by the formulas of textbooks."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from steepest.communication._cost import ring_messages

__all__ = ["Collectives", "collectives"]

Message = tuple[int, int]
"""The rank in the group that receives it, and its bytes."""


class Collectives(TorchDispatchMode):
    """Calls a function for every message that a collective operation of this thread sends.

    It sees `torch.distributed`'s functions, and what DistributedDataParallel calls in C++. A backend does not say how
    it sends, so the counts are those of the usual algorithms: an all-reduce, a reduce-scatter and an all-gather are
    rings; broadcast, reduce, gather and scatter are messages from or to the root; all-to-all is direct.
    """

    def __init__(self, count: Callable[[int, int, int, str], None]) -> None:
        super().__init__()
        self._count = count

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = func._schema.name.partition("::")[2].strip("_")
        if name not in _SENDS:
            return
        of = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        if func.namespace == "c10d":
            group: Any = dist.ProcessGroup.unbox(of["process_group"])
        else:  # The same operations, as functions of one tensor or several.
            found: Any = of["group_name"]
            group = dist.distributed_c10d._resolve_process_group(found) if isinstance(found, str) else found  # pyright: ignore[reportArgumentType]
            given = of["inputs"] if "inputs" in of else [of["input"]]
            of |= {"tensors": given, "input_tensors": given, "root_rank": of.get("src")}
        names = dist.get_process_group_ranks(group)
        rank, size = group.rank(), group.size()
        for receiver, length in _SENDS[name](of, rank, size):
            self._count(names[rank], names[receiver], length, name)


class _BesideCompiled(Collectives):
    """The same where torch's compiler is loaded, which must leave the method alone."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _dispatch(self, func, types, args, kwargs)


def _dispatch(self: Collectives, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    del types
    if func.namespace in ("c10d", "_c10d_functional"):
        self._note(func, args, kwargs or {})
    return func(*args, **(kwargs or {}))


# Not in the body of the class: there torch would wrap it, and the wrapper imports the compiler, for two seconds.
Collectives.__torch_dispatch__ = _dispatch


def collectives(count: Callable[[int, int, int, str], None]) -> Collectives:
    """Return the context in which messages of collective operations are counted.

    Args:
        count: Called with the sender, the receiver, the bytes and the operation of every message.
    """
    return (_BesideCompiled if "torch._dynamo" in sys.modules else Collectives)(count)


def _bytes(tensors: Any) -> int:
    if isinstance(tensors, Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(map(_bytes, tensors))


def _all_reduce(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    tensors: list[Tensor] = of["tensors"]
    # Several tensors of one call travel together.
    for numel in ring_messages(sum(t.numel() for t in tensors), size, rank):
        yield (rank + 1) % size, numel * tensors[0].element_size()


def _reduce_scatter(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    given = next(of[key] for key in ("input_tensors", "input_tensor", "inputs") if key in of)
    whole = _bytes(given)
    for _ in range(size - 1):
        yield (rank + 1) % size, whole // size


def _all_gather(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    given = next(of[key] for key in ("input_tensors", "input_tensor", "input_list", "inputs") if key in of)
    for _ in range(size - 1):
        yield (rank + 1) % size, _bytes(given)


def _broadcast(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    if rank == of["root_rank"]:
        for other in range(size):
            if other != rank:
                yield other, _bytes(of["tensors"])


def _to_root(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    del size
    if rank != of["root_rank"]:
        yield of["root_rank"], _bytes(of["tensors"] if "tensors" in of else of["input_tensors"])


def _scatter(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    if rank == of["root_rank"]:
        for other in range(size):
            if other != rank:
                yield other, _bytes(of["input_tensors"][0][other])


def _all_to_all(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    for other in range(size):
        if other != rank:
            yield other, _bytes(of["input_tensors"][other])


def _all_to_all_single(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    whole: Tensor = of["input"]
    row = math.prod(whole.shape[1:]) * whole.element_size()
    for other in range(size):
        if other != rank:
            yield other, (of["input_split_sizes"] or [len(whole) // size] * size)[other] * row


def _send(of: dict[str, Any], rank: int, size: int) -> Iterator[Message]:
    del rank, size
    yield of["dst"], _bytes(of["tensors"])


_SENDS: dict[str, Callable[[dict[str, Any], int, int], Iterator[Message]]] = {
    **dict.fromkeys(("allreduce", "allreduce_coalesced", "all_reduce", "all_reduce_coalesced"), _all_reduce),
    **dict.fromkeys(("reduce_scatter", "reduce_scatter_base", "reduce_scatter_tensor_coalesced"), _reduce_scatter),
    **dict.fromkeys(("reduce_scatter_tensor", "reduce_scatter_tensor_out"), _reduce_scatter),
    **dict.fromkeys(("allgather", "allgather_base", "allgather_coalesced"), _all_gather),
    **dict.fromkeys(("all_gather_into_tensor", "all_gather_into_tensor_out"), _all_gather),
    **dict.fromkeys(("allgather_into_tensor_coalesced", "all_gather_into_tensor_coalesced"), _all_gather),
    "broadcast": _broadcast,
    "reduce": _to_root,
    "gather": _to_root,
    "scatter": _scatter,
    "alltoall": _all_to_all,
    "alltoall_base": _all_to_all_single,
    "all_to_all_single": _all_to_all_single,
    "send": _send,
}
