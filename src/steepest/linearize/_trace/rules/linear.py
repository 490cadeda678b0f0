"""x W' + b, however it is written: the gradient is a sum over positions of cotangent (outer) input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steepest.linearize._factors import Factor, Outer
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.record import CallRecorder, LayerRule, Slot, Use
from steepest.linearize._trace.rules.affine import affine, positions_last, rule

__all__ = ["LINEAR"]


def _weight_of(slot: Slot, x: Tensor) -> Use:
    def build(left: Tensor, layout: Layout, n: int) -> Factor:
        return Outer(left, positions_last(x, layout, n))

    return Use(slot, build)


def _linear(recorder: CallRecorder, input: Any, weight: Any, bias: Any = None) -> Any:
    return _take(recorder, lambda w, b: F.linear(input, w, b), input, weight, bias, recorder.slot(weight))


def _matmul(recorder: CallRecorder, x: Any, weight: Any) -> Any:
    """X @ W with a matrix W: the weight of F.linear is its transpose."""
    slot = _transposed(recorder.slot(weight), weight)
    return _take(recorder, lambda w, _: torch.matmul(x, w), x, weight, None, slot)


def _addmm(recorder: CallRecorder, bias: Any, x: Any, weight: Any) -> Any:
    """B + x @ W, as some libraries write a linear layer."""
    if bias.ndim != 1:
        return NotImplemented
    slot = _transposed(recorder.slot(weight), weight)
    return _take(recorder, lambda w, b: torch.addmm(b, x, w), x, weight, bias, slot)


def _take(
    recorder: CallRecorder, apply: Callable[[Any, Any], Tensor], x: Any, weight: Any, bias: Any, slot: Slot | None
) -> Any:
    if weight.ndim != 2 or x.ndim < 2:
        return NotImplemented
    of_weight = None if slot is None else _weight_of(slot, x.detach())
    return affine(recorder, "linear", apply, weight, bias, of_weight, x.ndim - 1)


def _plain(take: Callable[..., Any], count: int) -> LayerRule:
    """Return the rule for calls with that many tensors and nothing else."""

    def of_tensors(recorder: CallRecorder, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs or len(args) != count or not all(isinstance(arg, Tensor) for arg in args):
            return NotImplemented
        return take(recorder, *args)

    return of_tensors


def _transposed(slot: Slot | None, weight: Tensor) -> Slot | None:
    if slot is None or weight.ndim != 2:
        return None
    index = torch.arange(weight.numel(), device=weight.device) if slot.index is None else slot.index
    return Slot(slot.name, index.view(weight.shape).T.flatten())


LINEAR: dict[Any, LayerRule] = {
    F.linear: rule(_linear),
    torch.addmm: _plain(_addmm, 3),
    **dict.fromkeys((torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__), _plain(_matmul, 2)),
}
