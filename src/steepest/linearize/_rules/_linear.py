"""x W' + b, however it is written: the gradient is a sum over positions of cotangent (outer) input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steepest.linearize._factors import Factor, Outer
from steepest.linearize._layout import Layout
from steepest.linearize._record import Recorder, Rule, Slot, Use, alias

__all__ = ["LINEAR", "bias_of", "positions_last"]


def positions_last(x: Tensor, layout: Layout, n: int) -> Tensor:
    """Return [n, T, m] of an input [*lead, m]."""
    return layout.split(x, n).reshape(n, -1, x.shape[-1])


def bias_of(slot: Slot) -> Use:
    """Return the use of what is added to every position."""
    return Use(slot, lambda left, *_: Outer(left, None))


def _weight_of(slot: Slot, x: Tensor) -> Use:
    def build(left: Tensor, layout: Layout, n: int) -> Factor:
        return Outer(left, positions_last(x, layout, n))

    return Use(slot, build)


def _linear(recorder: Recorder, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _with_names(recorder, *args, **kwargs)


def _with_names(recorder: Recorder, input: Any, weight: Any, bias: Any = None) -> Any:
    return _take(recorder, input, weight, bias, recorder.slot(weight), F.linear)


def _take(
    recorder: Recorder, x: Any, weight: Any, bias: Any, weight_slot: Slot | None, apply: Callable[..., Tensor]
) -> Any:
    bias_slot = recorder.slot(bias)
    if (weight_slot is None and bias_slot is None) or weight.ndim != 2 or x.ndim < 2:
        return NotImplemented
    key = recorder.begins("linear", weight_slot, bias_slot)
    if key is None:
        return NotImplemented
    uses: list[Use] = []
    if weight_slot is not None:
        weight = alias(weight)
        uses.append(_weight_of(weight_slot, x.detach()))
    if bias_slot is not None:
        bias = alias(bias)
        uses.append(bias_of(bias_slot))
    output = apply(x, weight, bias) if bias is not None else apply(x, weight)
    return recorder.ends(key, output, x.ndim - 1, uses)


def _matmul(recorder: Recorder, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """X @ W with a matrix W: the weight of F.linear is its transpose."""
    if kwargs or len(args) != 2 or not all(isinstance(a, Tensor) for a in args) or args[1].ndim != 2:
        return NotImplemented
    x, weight = args
    return _take(recorder, x, weight, None, _transposed(recorder.slot(weight), weight), torch.matmul)


def _addmm(recorder: Recorder, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """B + x @ W, as some libraries write a linear layer."""
    if kwargs or len(args) != 3 or not isinstance(args[0], Tensor) or args[0].ndim != 1:
        return NotImplemented
    bias, x, weight = args
    slot = _transposed(recorder.slot(weight), weight)
    return _take(recorder, x, weight, bias, slot, lambda x, weight, bias: torch.addmm(bias, x, weight))


def _transposed(slot: Slot | None, weight: Tensor) -> Slot | None:
    if slot is None:
        return None
    index = torch.arange(weight.numel(), device=weight.device) if slot.index is None else slot.index
    return Slot(slot.name, index.view(weight.shape).T.flatten())


LINEAR: dict[Any, Rule] = {
    F.linear: _linear,
    torch.addmm: _addmm,
    **dict.fromkeys((torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__), _matmul),
}
