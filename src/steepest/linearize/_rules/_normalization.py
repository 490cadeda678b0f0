"""LayerNorm, RMSNorm, GroupNorm and BatchNorm with the statistics of evaluation: a scale and a shift of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from steepest.linearize._factors import Factor, Rows
from steepest.linearize._layout import Layout
from steepest.linearize._record import Recorder, Rule, Use, alias
from steepest.linearize._rules._linear import bias_of, positions_last

__all__ = ["NORMALIZATION"]

Arrange = Callable[[Tensor], Tensor]


def _take(
    recorder: Recorder,
    apply: Callable[[Any, Any], Tensor],
    weight: Any,
    bias: Any,
    lead: int,
    arrange: Arrange,
) -> Any:
    """Record apply(weight, bias), whose output and normalised input have their features where `arrange` moves them."""
    weight_slot, bias_slot = (recorder.slot(w) for w in (weight, bias))
    if weight_slot is None and bias_slot is None:
        return NotImplemented
    key = recorder.begins("normalization", weight_slot, bias_slot)
    if key is None:
        return NotImplemented
    uses: list[Use] = []
    if weight_slot is not None:
        weight = alias(weight)
        with torch.no_grad():
            normalized = arrange(apply(None, None)[None])[0]

        def build(left: Tensor, layout: Layout, n: int) -> Factor:
            return Rows((left * positions_last(normalized, layout, n)[:, None]).sum(2))

        uses.append(Use(weight_slot, build))
    if bias_slot is not None:
        bias = alias(bias)
        uses.append(bias_of(bias_slot))
    output = apply(weight, bias)
    return recorder.ends(key, output, lead, uses, arrange)


def _features(count: int) -> Arrange:
    """The last `count` dimensions are the features."""
    return lambda d: d.flatten(d.ndim - count)


def _channels(d: Tensor) -> Tensor:
    """The features are dimension 1, after the one of the outputs: 2."""
    return d.movedim(2, -1)


def _layer_norm(recorder: Recorder, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    def take(
        input: Tensor,
        normalized_shape: Any,
        weight: Any = None,
        bias: Any = None,
        eps: float = 1e-5,
        cudnn_enable: bool = True,
    ) -> Any:
        del cudnn_enable
        count = len(normalized_shape)
        return _take(
            recorder,
            lambda w, b: torch.layer_norm(input, normalized_shape, w, b, eps),
            weight,
            bias,
            input.ndim - count,
            _features(count),
        )

    return take(*args, **kwargs)


def _rms_norm(recorder: Recorder, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    def take(input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
        count = len(normalized_shape)
        return _take(
            recorder,
            lambda w, _: torch.rms_norm(input, normalized_shape, w, eps),
            weight,
            None,
            input.ndim - count,
            _features(count),
        )

    return take(*args, **kwargs)


def _group_norm(recorder: Recorder, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    def take(
        input: Tensor,
        num_groups: int,
        weight: Any = None,
        bias: Any = None,
        eps: float = 1e-5,
        cudnn_enabled: bool = True,
    ) -> Any:
        del cudnn_enabled
        return _take(
            recorder,
            lambda w, b: torch.group_norm(input, num_groups, w, b, eps),
            weight,
            bias,
            input.ndim - 1,
            _channels,
        )

    return take(*args, **kwargs)


def _batch_norm(recorder: Recorder, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    def take(
        input: Tensor,
        weight: Any,
        bias: Any,
        running_mean: Any,
        running_var: Any,
        training: bool,
        momentum: float,
        eps: float,
        cudnn_enabled: bool,
    ) -> Any:
        if training:  # the examples of a batch are coupled
            return NotImplemented
        return _take(
            recorder,
            lambda w, b: torch.batch_norm(input, w, b, running_mean, running_var, False, momentum, eps, cudnn_enabled),
            weight,
            bias,
            input.ndim - 1,
            _channels,
        )

    return take(*args, **kwargs)


NORMALIZATION: dict[Any, Rule] = {
    torch.layer_norm: _layer_norm,
    torch.rms_norm: _rms_norm,
    torch.group_norm: _group_norm,
    torch.batch_norm: _batch_norm,
}
