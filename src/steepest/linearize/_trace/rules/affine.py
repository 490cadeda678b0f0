"""Recording of operations with a weight and a bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from steepest.linearize._factors import Outer
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.record import CallRecorder, LayerRule, Slot, Use, alias

__all__ = ["affine", "bias_of", "positions_last", "rule"]


def rule(take: Callable[..., Any]) -> LayerRule:
    """Return the rule that hands a function's arguments over by their places and names: take(recorder, ...)."""
    return lambda recorder, _, args, kwargs: take(recorder, *args, **kwargs)


def affine(
    recorder: CallRecorder,
    kind: str,
    apply: Callable[[Any, Any], Tensor],
    weight: Any,
    bias: Any,
    of_weight: Use | None,
    lead: int,
    arrange: Callable[[Tensor], Tensor] | None = None,
) -> Any:
    """Record apply(weight, bias) with those of the two that are parameters, or return NotImplemented.

    Args:
        recorder: That of the pass.
        kind: The rule's name.
        apply: The operation.
        weight: Its weight, or None.
        bias: What it adds at every position, or None.
        of_weight: The ingredients of the weight's gradient; None where the weight is not a parameter.
        lead: See `Call`.
        arrange: See `Call`.
    """
    bias_slot = recorder.slot(bias)
    weight_slot = None if of_weight is None else of_weight.slot
    if weight_slot is None and bias_slot is None:
        return NotImplemented
    key = recorder.begins(kind, weight_slot, bias_slot)
    if key is None:
        return NotImplemented
    uses: list[Use] = []
    if of_weight is not None:
        weight = alias(weight)
        uses.append(of_weight)
    if bias_slot is not None:
        bias = alias(bias)
        uses.append(bias_of(bias_slot))
    return recorder.ends(key, apply(weight, bias), lead, uses, arrange)


def bias_of(slot: Slot) -> Use:
    """Return the use of a bias that is added to every position."""
    return Use(slot, lambda left, *_: Outer(left, None))


def positions_last(x: Tensor, layout: Layout, n: int) -> Tensor:
    """Return [n, T, m] of an input [*lead, m]."""
    return layout.split(x, n).reshape(n, -1, x.shape[-1])
