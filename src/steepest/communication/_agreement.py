"""What the workers compare before anything is sent, through the store of their group."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor

from steepest import _check
from steepest.communication._buckets import Bucket
from steepest.communication._group import Group
from steepest.errors import CommunicationError, InvalidArgument

__all__ = ["agree", "agreed_by_workers", "described", "leave", "refuse"]


def described(scheme: object, buckets: list[Bucket], examples: float | None, tensors: Sequence[Tensor]) -> Any:
    """Return what a worker passes, in words and numbers that the others can compare with their own."""
    if examples is not None:
        examples = _check.in_range("examples", examples, "[0, inf)")
    shapes = ", ".join(f"{_dtype(t)} {list(t.shape)}" for t in tensors[:6]) + (", ..." if len(tensors) > 6 else "")
    numbers = sum(bucket.numel for bucket in buckets)
    return {
        "scheme": repr(scheme),
        "tensors": f"{len(tensors)} tensor{'s' * (len(tensors) != 1)} of {numbers} numbers ({shapes})",
        "buckets": [[_dtype(bucket), bucket.numel, bucket.tensors[0].device.type] for bucket in buckets],
        "shapes": hash(tuple(tuple(t.shape) for t in tensors)),
        "examples": examples,
    }


def _dtype(tensor: Tensor | Bucket) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def agree(place: Group, own: Any) -> tuple[float, float]:
    """Compare what all workers pass; return their number of examples, and this worker's.

    A worker writes its own description, removes the one of the last call but one (everybody has read it, since
    everybody has written that of the last call), and reads all. That takes three round trips to the store. Where there
    is a separate server, it follows, and removes them.

    Raises:
        InvalidArgument: The workers pass different things.
        CommunicationError: A worker did not arrive within the timeout of the group, or will not.
    """
    if place.size == 1 and place.served is None:
        everybody = [own]
    else:
        call = refuse(place, own)
        keys = _keys(call, place.size)
        place.store.set_timeout(place.timeout)
        try:
            if call > 1 and place.served is None:
                place.store.delete_key(_keys(call - 2, place.size)[place.rank])
            everybody = [json.loads(text) for text in place.store.multi_get(keys)]
        except RuntimeError as error:
            raise _missing(place, keys, error) from error
    return _total(everybody, place.names), 1.0 if own["examples"] is None else own["examples"]


def refuse(place: Group, own: Any) -> int:
    """Write what this worker passes, or why it refuses to go on, and return the number of the call."""
    call = place.calls
    place.calls += 1
    place.store.set(_keys(call, place.size)[place.rank], json.dumps(own))
    return call


def leave(place: Group) -> None:
    """Write that this worker will not call again, so that no other one waits for it."""
    refuse(place, {"left": True})


def agreed_by_workers(store: dist.Store, workers: int) -> Iterator[list[list[Any]]]:
    """Return, for a separate server, the scheme and buckets [dtype, numel, device] of every call, as it is agreed on.

    Once all workers have written a call, all have read the last one, which is then removed.
    """
    store.set_timeout(timedelta(days=30))
    call = 0
    while True:
        everybody = [json.loads(text) for text in store.multi_get(_keys(call, workers))]
        if call > 0:
            for key in _keys(call - 1, workers):
                store.delete_key(key)
        call += 1
        try:
            _total(everybody, range(workers))
        except (InvalidArgument, CommunicationError):
            continue
        yield [[everybody[0]["scheme"], *bucket] for bucket in everybody[0]["buckets"]]


def _keys(call: int, workers: int) -> list[str]:
    return [f"{call}/{rank}" for rank in range(workers)]


def _total(everybody: list[Any], names: Sequence[int]) -> float:
    """Return the number of examples of all workers, or of workers if none says a number of examples."""
    for name, each in zip(names, everybody, strict=True):
        if "left" in each:
            remedy = "Let all workers call it before any of them returns."
            raise CommunicationError(
                "all workers must average equally often", got=f"rank {name} has returned", remedy=remedy
            )
        if "refused" in each:
            raise InvalidArgument(f"rank {name} has refused its arguments", got=each["refused"], remedy="See there.")
    for what, shown in (("scheme", "scheme"), ("buckets", "tensors"), ("shapes", "tensors"), ("examples", "examples")):
        values = [each[what] is None if what == "examples" else each[what] for each in everybody]
        if any(value != values[0] for value in values):
            alike = "given, or not given," if what == "examples" else "the same"
            rule = f"{shown} must be {alike} on all workers: {_by_rank(shown, everybody, names)}"
            raise InvalidArgument(rule, remedy="Pass the same on each of them.")
    if everybody[0]["examples"] is None:
        return float(len(everybody))
    total = float(sum(each["examples"] for each in everybody))
    if total == 0:
        raise InvalidArgument("examples must not be 0 on all workers", got=0, remedy="Skip a batch without examples.")
    return total


def _by_rank(shown: str, everybody: list[Any], names: Sequence[int]) -> str:
    """Return who passes what: "rank 0 passes ..., ranks 1, 2 pass ..."."""
    groups: dict[str, list[int]] = {}
    for name, each in zip(names, everybody, strict=True):
        groups.setdefault(str(each[shown]), []).append(name)
    said = [
        f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} pass{'es' * (len(ranks) == 1)} {text}"
        for text, ranks in groups.items()
    ]
    return "; ".join(said)


def _missing(place: Group, keys: list[str], error: RuntimeError) -> CommunicationError:
    try:
        absent = [name for name, key in zip(place.names, keys, strict=True) if not place.store.check([key])]
    except RuntimeError:
        return CommunicationError(
            "the store of the process group must answer",
            got=str(error).splitlines()[0],
            remedy="The process that hosts it has probably ended: see its output.",
        )
    return CommunicationError(
        f"all workers of the group must call average_ within its timeout of {place.timeout.total_seconds():g} s",
        got=f"no call of rank{'s' * (len(absent) > 1)} {', '.join(map(str, absent))}",
        remedy="See whether these processes are alive, and whether all workers average equally often.",
    )
