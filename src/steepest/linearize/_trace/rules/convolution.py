"""Convolutions: linear maps of patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steepest.linearize._factors import Factor, Outer
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.record import CallRecorder, LayerRule, Use
from steepest.linearize._trace.rules.affine import affine, positions_last

__all__ = ["CONVOLUTION"]


def _rule(dimensions: int) -> LayerRule:
    def convolution(
        recorder: CallRecorder, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return _take(recorder, function, dimensions, *args, **kwargs)

    return convolution


def _take(
    recorder: CallRecorder,
    function: Callable[..., Any],
    dimensions: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    if input.ndim != dimensions + 2:
        return NotImplemented
    slot = recorder.slot(weight)
    strides, dilations = (_each(value, dimensions) for value in (stride, dilation))
    kernel = tuple(weight.shape[2:])
    pads = _pads(padding, kernel, dilations)
    x = input.detach()

    def build(left: Tensor, layout: Layout, n: int) -> Factor:
        return Outer(left, positions_last(_patches(x, kernel, strides, pads, dilations), layout, n), groups)

    return affine(
        recorder,
        "convolution",
        lambda w, b: function(input, w, b, stride, padding, dilation, groups),
        weight,
        bias,
        None if slot is None else Use(slot, build),
        dimensions + 1,
        lambda d: d.movedim(2, -1),
    )


def _each(value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dimensions if len(values) == 1 else values


def _pads(padding: Any, kernel: tuple[int, ...], dilations: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return how much is put before and after each dimension; "same" puts the odd one after."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in _each(padding, len(kernel))]


def _patches(
    x: Tensor,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: list[tuple[int, int]],
    dilations: tuple[int, ...],
) -> Tensor:
    """Return what each output position sees, [B, *positions, channels x kernel]: groups of channels lie together."""
    x = F.pad(x, [p for pair in reversed(pads) for p in pair])
    b, channels, *steps = x.stride()
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = [(size - span) // s + 1 for size, span, s in zip(x.shape[2:], spans, strides, strict=True)]
    patches = x.as_strided(
        (x.shape[0], *sizes, x.shape[1], *kernel),
        (
            b,
            *(s * step for s, step in zip(strides, steps, strict=True)),
            channels,
            *(d * step for d, step in zip(dilations, steps, strict=True)),
        ),
    )
    return patches.flatten(1 + len(sizes))


CONVOLUTION: dict[Any, LayerRule] = {
    function: _rule(d)
    for d, functions in enumerate(
        ((F.conv1d, torch.conv1d), (F.conv2d, torch.conv2d), (F.conv3d, torch.conv3d)), start=1
    )
    for function in functions
}
