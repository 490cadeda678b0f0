"""Bare parameters in arithmetic: scales, shifts, position embeddings, class tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from steepest.linearize._factors import Factor, Rows
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.record import CallRecorder, LayerRule, Slot, Use

__all__ = ["ELEMENTWISE"]


def _binary(recorder: CallRecorder, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    if len(args) != 2 or not all(isinstance(arg, Tensor) for arg in args):
        return NotImplemented
    slots = [recorder.slot(arg) for arg in args]
    if (slots[0] is None) == (slots[1] is None):
        return NotImplemented
    which = 0 if slots[1] is None else 1
    slot = slots[which]
    assert slot is not None
    shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
    spread = _spread(recorder, args[which], slot, shape)
    if spread is None:
        return NotImplemented
    operands = (spread, args[1]) if which == 0 else (args[0], spread)
    return function(*operands, **kwargs)


def _expand(recorder: CallRecorder, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    slot = recorder.slot(args[0])
    if slot is None:
        return NotImplemented
    spread = _spread(recorder, args[0], slot, function(*args, **kwargs).shape)
    return NotImplemented if spread is None else spread


def _spread(recorder: CallRecorder, parameter: Tensor, slot: Slot, shape: torch.Size) -> Tensor | None:
    """Return the parameter expanded to a shape, as a leaf of which autograd gives every example's share."""
    if not shape or parameter.shape == shape:
        return None  # it has no dimension for examples
    key = recorder.begins("elementwise", slot)
    if key is None:
        return None
    inner = (1,) * (len(shape) - parameter.ndim) + tuple(parameter.shape)
    spread = parameter.detach().expand(shape).requires_grad_()

    def build(d: Tensor, layout: Layout, n: int) -> Factor:
        # Where another axis was merged with that of the examples, it stands after it now, or where it was.
        rest = layout.split(d, n, 1)  # [n, C, ...]
        own = list(inner)
        del own[layout.axis]
        if shape[layout.axis] != n:
            own.insert(layout.axis, 1)
        summed = [i + 2 for i, size in enumerate(own) if size == 1 and rest.shape[i + 2] != 1]
        return Rows((rest.sum(summed) if summed else rest).reshape(n, d.shape[0], -1))

    # A parameter with an entry for each example is none of those that every example shares.
    shared = frozenset(i for i, size in enumerate(inner) if size == 1)
    return recorder.ends(key, spread, len(shape), [Use(slot, build)], shared=shared)


_NAMES = ("add", "sub", "mul", "div", "true_divide", "multiply", "subtract", "maximum", "minimum", "pow")
_METHODS = ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__")
_IN_PLACE = ("add_", "sub_", "mul_", "div_", "__iadd__", "__isub__", "__imul__", "__itruediv__")

ELEMENTWISE: dict[Any, LayerRule] = {
    **{getattr(torch, name): _binary for name in _NAMES},
    **{getattr(Tensor, name): _binary for name in (*_NAMES, *_METHODS, *_IN_PLACE) if hasattr(Tensor, name)},
    **dict.fromkeys((Tensor.expand, Tensor.expand_as, torch.broadcast_to), _expand),
}
