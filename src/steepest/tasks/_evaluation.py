"""The validation loss and metric, batch by batch."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from steepest.errors import TaskError
from steepest.tasks._batch import Batch, moved, rows_of, target_of
from steepest.tasks._metric import Metric, is_running
from steepest.tasks._objective import Objective

__all__ = ["evaluate", "number"]

_PENDING = 1 << 26
"""Bytes of outputs that are kept on their device before they are copied to the CPU: each copy waits for the device."""

_WAY_OUT = "Pass as metric an object with update(output, target) and compute(), as in torchmetrics."


def evaluate(
    model: nn.Module,
    objective: Objective,
    metrics: Mapping[str, Metric],
    batches: Iterable[Batch],
    device: torch.device | str,
) -> tuple[float, dict[str, float]]:
    """Return the mean loss, weighted by the lengths of the batches, and each metric of all outputs by its name.

    Only what the metrics need is copied to the CPU batch by batch.

    Raises:
        TaskError: If the loss is no scalar tensor, the outputs cannot be concatenated, or a metric is no number.
    """
    losses: list[Tensor] = []
    lengths: list[int] = []
    running = {name: _copied(each.function, device) for name, each in metrics.items() if is_running(each.function)}
    outputs = _Outputs() if len(running) < len(metrics) else None
    for given in batches:
        batch = moved(given, device)
        value, output = objective.validation(model, batch, needs_output=bool(metrics))
        if not isinstance(value, Tensor) or value.ndim:
            raise TaskError(
                "a task's loss must be a scalar tensor",
                got=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__,
                remedy="Average over the batch, for example with .mean().",
            )
        losses.append(value.detach())
        lengths.append(rows_of(batch))
        for each in running.values():
            each.update(output, target_of(batch))
        if outputs is not None:
            outputs.update(output, target_of(batch), lengths[-1])
    if not lengths:
        raise TaskError("the validation data must have a batch", got="none", remedy="Look for an empty valid.")
    weights = torch.tensor(lengths, dtype=torch.float64) / sum(lengths)
    mean = float(torch.stack(losses).cpu().double() @ weights)
    together = None if outputs is None else outputs.joined()
    values = {
        name: running[name].compute() if together is None or name in running else metric.function(*together)
        for name, metric in metrics.items()
    }
    return mean, {name: number(value, name) for name, value in values.items()}


def number(value: Any, name: str) -> float:
    """Return the value of the metric of this name as a float.

    Raises:
        TaskError: If it is not one real number.

    >>> number(torch.tensor([0.5]), "accuracy")
    0.5
    """
    shape = getattr(value, "shape", None)
    if shape is None:
        if isinstance(value, numbers.Real):
            return float(value)
    elif math.prod(shape) == 1 and isinstance(value.item(), numbers.Real):
        return float(value.item())
    raise TaskError(
        f"a task's metric {name} must be one number",
        got=repr(value) if shape is None else f"shape {tuple(shape)}",
        remedy="Return a float or a tensor with one entry, for example with .mean().",
    )


class _Running(Protocol):
    """Accumulates outputs with their targets, and computes the metric at the end."""

    def update(self, output: Any, target: Any) -> Any: ...

    def compute(self) -> Any: ...


def _copied(metric: Any, device: torch.device | str) -> _Running:
    """Return a copy, so that an evaluation does not affect the next one."""
    copied = copy.deepcopy(metric)
    if callable(getattr(copied, "reset", None)):
        copied.reset()
    if callable(getattr(copied, "to", None)):
        copied.to(device)
    return cast(_Running, copied)


class _Outputs:
    """All outputs and targets together, on the CPU."""

    def __init__(self) -> None:
        self._pending: list[tuple[Any, Any, int]] = []
        self._bytes = 0
        self._pieces: list[tuple[Any, Any, int]] = []

    def update(self, output: Any, target: Any, rows: int) -> None:
        self._pending.append((_without_loss(output), target, rows))
        self._bytes += output.nbytes if isinstance(output, Tensor) else _PENDING
        if self._bytes >= _PENDING:
            self._flush()

    def joined(self) -> tuple[Any, Any]:
        self._flush()
        output, target, _ = _joined(self._pieces)
        return output, target

    def _flush(self) -> None:
        if self._pending:
            self._pieces.append(_joined(self._pending))
            self._pending, self._bytes = [], 0


def _joined(pieces: Sequence[tuple[Any, Any, int]]) -> tuple[Any, Any, int]:
    lengths = [rows for _, _, rows in pieces]
    output = _concatenated([output for output, _, _ in pieces], lengths, "output")
    return output, _joined_targets([target for _, target, _ in pieces], lengths), sum(lengths)


class _PerBatch(list[Any]):
    """A part of the targets that differs in shape between batches: one value per batch."""


def _joined_targets(targets: list[Any], lengths: list[int]) -> Any:
    """Join targets; where they are mappings, parts that cannot be joined, such as padded texts, stay a list."""
    if not all(isinstance(target, Mapping) for target in targets):
        return _concatenated(targets, lengths, "target")
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for target in targets for key in target):
        parts = [target.get(key) for target in targets]
        try:
            if any(isinstance(part, _PerBatch) for part in parts):
                raise TaskError("one of them was not joined before")
            joined[key] = _concatenated(parts, lengths, f"target[{key!r}]")
        except TaskError:
            joined[key] = _PerBatch(
                each for part in parts for each in (cast(Any, part) if isinstance(part, _PerBatch) else (part,))
            )
    return joined


def _without_loss(output: Any) -> Any:
    """Return the output of a model without the loss of the batch that it may hold, which has no row per example."""
    held = _held(output)
    loss = None if held is None else held.get("loss")
    return _rebuilt(output, {**held, "loss": None}) if held and isinstance(loss, Tensor) and not loss.ndim else output


def _held(output: Any) -> dict[str, Any] | None:
    """Return the parts of a mapping, a dataclass or a namespace by name; None for anything else."""
    if isinstance(output, Mapping):
        return dict(cast("Mapping[str, Any]", output))
    if isinstance(output, types.SimpleNamespace) or (dataclasses.is_dataclass(output) and not isinstance(output, type)):
        return dict(vars(output))
    return None


def _rebuilt(like: Any, parts: dict[str, Any]) -> Any:
    if isinstance(like, Mapping):
        return parts if type(cast(Any, like)) is dict else cast(Any, type(cast(Any, like)))(**parts)
    made = copy.copy(like)
    for name, part in parts.items():
        object.__setattr__(made, name, part)  # a dataclass may be frozen
    return made


def _concatenated(parts: list[Any], lengths: list[int], name: str) -> Any:
    """Join the outputs of several batches along the first dimension, inside of tuples, lists and dicts."""
    first = parts[0]
    if all(isinstance(part, Tensor) for part in parts):
        return _one_tensor(parts, lengths, name)
    if len({type(part) for part in parts}) == 1:
        if first is None:
            return None
        held = [_held(part) for part in parts]
        if held[0] is not None and len({tuple(part or ()) for part in held}) == 1:
            named = cast("list[dict[str, Any]]", held)
            joined = {key: _concatenated([p[key] for p in named], lengths, f"{name}[{key!r}]") for key in named[0]}
            return _rebuilt(first, joined)
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
