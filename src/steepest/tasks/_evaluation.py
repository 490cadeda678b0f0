"""The validation loss and metric, batch by batch."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from steepest.errors import TaskError
from steepest.tasks._data import Batch

__all__ = ["evaluate", "is_metric", "number"]

_PENDING = 1 << 26
"""Bytes of outputs that are kept on their device before they are copied to the CPU: each copy waits for the device."""

_WAY_OUT = "Pass as metric an object with update(output, target) and compute(), as in torchmetrics."


def evaluate(
    model: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    metric: Any,
    batches: Iterable[Batch],
    device: torch.device | str,
) -> tuple[float, float]:
    """Return the mean loss, weighted by the lengths of the batches, and the metric of all outputs (nan without one).

    Only what the metric needs is copied to the CPU batch by batch.

    Raises:
        TaskError: If the loss is no scalar tensor, the outputs cannot be concatenated, or the metric is no number.
    """
    losses: list[Tensor] = []
    lengths: list[int] = []
    meter = _meter(metric, device)
    for batch in batches:
        *inputs, target = (tensor.to(device) for tensor in batch)
        output = model(*inputs)
        value: Any = loss(output, target)
        if not isinstance(value, Tensor) or value.ndim:
            raise TaskError(
                "a task's loss must be a scalar tensor",
                got=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__,
                remedy="Average over the batch, for example with .mean().",
            )
        losses.append(value.detach())
        lengths.append(len(target))
        if meter is not None:
            meter.update(output, target)
    weights = torch.tensor(lengths, dtype=torch.float64) / sum(lengths)
    mean = float(torch.stack(losses).cpu().double() @ weights)
    return mean, math.nan if meter is None else number(meter.compute())


def is_metric(metric: Any) -> bool:
    """Return whether it is None, a function, or an object (not the class) with `update` and `compute`."""
    if _is_running(metric):
        return not isinstance(metric, type)
    return metric is None or callable(metric)


def _is_running(metric: Any) -> bool:
    try:
        return all(callable(getattr(metric, name, None)) for name in ("update", "compute"))
    except Exception:  # an object's own __getattr__ may raise anything
        return False


def number(value: Any) -> float:
    """Return the value of a metric as a float.

    Raises:
        TaskError: If it is not one real number.

    >>> number(torch.tensor([0.5]))
    0.5
    """
    shape = getattr(value, "shape", None)
    if shape is None:
        if isinstance(value, numbers.Real):
            return float(value)
    elif math.prod(shape) == 1 and isinstance(value.item(), numbers.Real):
        return float(value.item())
    raise TaskError(
        "a task's metric must be one number",
        got=repr(value) if shape is None else f"shape {tuple(shape)}",
        remedy="Return a float or a tensor with one entry, for example with .mean().",
    )


class _Meter(Protocol):
    """Accumulates outputs with their targets, and computes the metric at the end."""

    def update(self, output: Any, target: Tensor) -> Any: ...

    def compute(self) -> Any: ...


def _meter(metric: Any, device: torch.device | str) -> _Meter | None:
    if metric is None:
        return None
    if not _is_running(metric):
        return _OfAll(metric)
    meter = copy.deepcopy(metric)  # so that an evaluation does not affect the next one
    if callable(getattr(meter, "reset", None)):
        meter.reset()
    if callable(getattr(meter, "to", None)):
        meter.to(device)
    return cast(_Meter, meter)


class _OfAll:
    """A function of all outputs and targets together, on the CPU."""

    def __init__(self, metric: Callable[[Any, Tensor], Any]) -> None:
        self._metric = metric
        self._pending: list[tuple[Any, Tensor]] = []
        self._bytes = 0
        self._pieces: list[tuple[Any, Tensor]] = []

    def update(self, output: Any, target: Tensor) -> None:
        self._pending.append((output, target))
        self._bytes += output.nbytes if isinstance(output, Tensor) else _PENDING
        if self._bytes >= _PENDING:
            self._flush()

    def compute(self) -> Any:
        self._flush()
        return self._metric(*_joined(self._pieces))

    def _flush(self) -> None:
        if self._pending:
            self._pieces.append(_joined(self._pending))
            self._pending, self._bytes = [], 0


def _joined(pairs: Sequence[tuple[Any, Tensor]]) -> tuple[Any, Tensor]:
    lengths = [len(target) for _, target in pairs]
    target = torch.cat([target for _, target in pairs]) if len(pairs) > 1 else pairs[0][1]
    return _concatenated([output for output, _ in pairs], lengths, "output"), target.cpu()


def _concatenated(parts: list[Any], lengths: list[int], name: str) -> Any:
    """Join the outputs of several batches along the first dimension, inside of tuples, lists and dicts."""
    first = parts[0]
    if all(isinstance(part, Tensor) for part in parts):
        return _one_tensor(parts, lengths, name)
    if len({type(part) for part in parts}) == 1:
        if first is None:
            return None
        if isinstance(first, Mapping) and len({tuple(part) for part in parts}) == 1:
            joined = {key: _concatenated([p[key] for p in parts], lengths, f"{name}[{key!r}]") for key in first}
            return joined if type(first) is dict else cast(Any, type(first))(**joined)
        if isinstance(first, (tuple, list)) and len({len(part) for part in parts}) == 1:
            items = range(len(cast(Any, first)))
            joined = [_concatenated([part[i] for part in parts], lengths, f"{name}[{i}]") for i in items]
            return type(first)(*joined) if hasattr(first, "_fields") else cast(Any, type(first))(joined)
    if len(parts) == 1:
        return first
    raise TaskError(
        "for a metric of all outputs, those of each batch must be tensors, or tuples, lists and dicts of tensors",
        got=f"{name}: {type(first).__name__}",
        remedy=_WAY_OUT,
    )


def _one_tensor(parts: list[Tensor], lengths: list[int], name: str) -> Tensor:
    if len(parts) == 1:
        return parts[0].cpu()
    try:
        if not all(_has_rows(part, length) for part, length in zip(parts, lengths, strict=True)):
            raise RuntimeError
        return torch.cat(parts).cpu()
    except RuntimeError as error:
        shapes = dict.fromkeys(f"{tuple(part.shape)} of {length}" for part, length in zip(parts, lengths, strict=True))
        raise TaskError(
            "for a metric of all outputs, those of each batch must have one row per example and otherwise equal shapes",
            got=f"{name}: shapes {', '.join(list(shapes)[:3])} examples",
            remedy=_WAY_OUT,
        ) from error


def _has_rows(part: Tensor, length: int) -> bool:
    """Return whether the first dimension is that of the examples, or of all their positions together."""
    if not part.ndim:
        return False
    return len(part) == length or (len(part) % length == 0 and length not in part.shape[1:])
