"""What the workers compare before anything is sent, through the store of their group."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from steepest import _check
from steepest.communication._buckets import Bucket
from steepest.communication._group import Group
from steepest.errors import CommunicationError, InvalidArgument

__all__ = ["agree", "described"]


def described(scheme: object, buckets: list[Bucket], examples: float | None, tensors: Any) -> dict[str, Any]:
    """Return what a worker passes, in words and numbers that the others can compare with their own."""
    if examples is not None:
        examples = _check.in_range("examples", examples, "[0, inf)")
    listed: list[Tensor] = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    shapes = ", ".join(f"{_dtype(t)} {list(t.shape)}" for t in listed[:6]) + (", ..." if len(listed) > 6 else "")
    return {
        "scheme": repr(scheme),
        "tensors": f"{len(listed)} tensors of {sum(t.numel() for t in listed)} numbers ({shapes})",
        "buckets": [[_dtype(bucket), bucket.numel, bucket.tensors[0].device.type] for bucket in buckets],
        "layout": hash(tuple(tuple(t.shape) for t in listed)),
        "examples": examples,
    }


def _dtype(tensor: Tensor | Bucket) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def agree(place: Group, own: dict[str, Any], *, served: bool) -> tuple[float, float]:
    """Compare what all workers pass; return their number of examples, and this worker's.

    A worker writes its own description, reads all, and then removes the one of two calls ago: everybody has read it,
    as everybody has written that of the last call since. That takes two round trips to the store.

    Raises:
        InvalidArgument: The workers pass different things.
        CommunicationError: A worker did not arrive within the timeout of the group.
    """
    call = place.calls[served]
    place.calls[served] += 1
    mine = json.dumps(own)
    if place.size == 1:
        everybody = [own]
    else:
        prefix = "served" if served else "call"
        keys = [f"{prefix}/{call}/{rank}" for rank in range(place.size)]
        place.store.set(keys[place.rank], mine)
        place.store.set_timeout(place.timeout)
        try:
            everybody = [json.loads(text) for text in place.store.multi_get(keys)]
        except RuntimeError as error:
            raise _missing(place, keys, error) from error
        if call > 1:
            place.store.delete_key(f"{prefix}/{call - 2}/{place.rank}")
    for what in ("scheme", "buckets", "layout", "examples"):
        values = [each[what] if what != "examples" else each[what] is None for each in everybody]
        if any(value != values[0] for value in values):
            raise _differ(place, what, everybody)
    if own["examples"] is None:
        return float(place.size), 1.0
    total = float(sum(each["examples"] for each in everybody))
    if total == 0:
        raise InvalidArgument("examples must not be 0 on all workers", got=0, remedy="Skip a batch without examples.")
    return total, own["examples"]


def _differ(place: Group, what: str, everybody: list[dict[str, Any]]) -> InvalidArgument:
    shown = {"scheme": "scheme", "buckets": "tensors", "layout": "tensors", "examples": "examples"}[what]
    groups: dict[str, list[int]] = {}
    for name, each in zip(place.names, everybody, strict=True):
        groups.setdefault(str(each[shown]), []).append(name)
    who = "; ".join(f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}: {t}" for t, ranks in groups.items())
    return InvalidArgument(f"{shown} must be alike on all workers, but {who}", remedy="Pass the same on all of them.")


def _missing(place: Group, keys: list[str], error: RuntimeError) -> CommunicationError:
    try:
        absent = [name for name, key in zip(place.names, keys, strict=True) if not place.store.check([key])]
    except RuntimeError:
        return CommunicationError(
            "the store of the process group does not answer",
            got=str(error).splitlines()[0],
            remedy="The process that hosts it has probably ended; see its output.",
        )
    return CommunicationError(
        f"all workers of the group must call average_ within {place.timeout.total_seconds():g} s",
        got=f"no call of rank{'s' * (len(absent) > 1)} {', '.join(map(str, absent))}",
        remedy="See whether these processes are alive, and whether every worker averages as often as the others.",
    )
