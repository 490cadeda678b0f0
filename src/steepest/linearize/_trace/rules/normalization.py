"""LayerNorm, RMSNorm, GroupNorm and BatchNorm with the statistics of evaluation: a scale and a shift of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from steepest.linearize._factors import Factor, Rows
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.record import CallRecorder, LayerRule, Use
from steepest.linearize._trace.rules.affine import affine, positions_last, rule

__all__ = ["NORMALIZATION"]

Arrange = Callable[[Tensor], Tensor]


def _take(
    recorder: CallRecorder, apply: Callable[[Any, Any], Tensor], weight: Any, bias: Any, lead: int, arrange: Arrange
) -> Any:
    """Record apply(weight, bias), whose output and normalised input have their features where `arrange` moves them."""
    slot = recorder.slot(weight)

    def build(left: Tensor, layout: Layout, n: int) -> Factor:
        with torch.no_grad():
            normalized = arrange(apply(None, None)[None])[0]
        return Rows((left * positions_last(normalized, layout, n)[:, None]).sum(2))

    of_weight = None if slot is None else Use(slot, build)
    return affine(recorder, "normalization", apply, weight, bias, of_weight, lead, arrange)


def _features(count: int) -> Arrange:
    """The last `count` dimensions are the features."""
    return lambda d: d.flatten(d.ndim - count)


def _channels(d: Tensor) -> Tensor:
    """The features are dimension 1, after the one of the outputs: 2."""
    return d.movedim(2, -1)


def _layer_norm(
    recorder: CallRecorder,
    input: Tensor,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    *rest: Any,
    **more: Any,
) -> Any:
    count = len(normalized_shape)

    def apply(w: Any, b: Any) -> Tensor:
        return torch.layer_norm(input, normalized_shape, w, b, *rest, **more)

    return _take(recorder, apply, weight, bias, input.ndim - count, _features(count))


def _rms_norm(
    recorder: CallRecorder, input: Tensor, normalized_shape: Any, weight: Any = None, *rest: Any, **more: Any
) -> Any:
    count = len(normalized_shape)

    def apply(w: Any, _: Any) -> Tensor:
        return torch.rms_norm(input, normalized_shape, w, *rest, **more)

    return _take(recorder, apply, weight, None, input.ndim - count, _features(count))


def _group_norm(
    recorder: CallRecorder, input: Any, num_groups: int, weight: Any = None, bias: Any = None, *rest: Any, **more: Any
) -> Any:
    def apply(w: Any, b: Any) -> Tensor:
        return torch.group_norm(input, num_groups, w, b, *rest, **more)

    return _take(recorder, apply, weight, bias, input.ndim - 1, _channels)


def _batch_norm(
    recorder: CallRecorder, input: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any
) -> Any:
    if training:  # the examples of a batch are coupled
        return NotImplemented

    def apply(w: Any, b: Any) -> Tensor:
        return torch.batch_norm(input, w, b, mean, var, False, *rest)

    return _take(recorder, apply, weight, bias, input.ndim - 1, _channels)


NORMALIZATION: dict[Any, LayerRule] = {
    torch.layer_norm: rule(_layer_norm),
    torch.rms_norm: rule(_rms_norm),
    torch.group_norm: rule(_group_norm),
    torch.batch_norm: rule(_batch_norm),
}
