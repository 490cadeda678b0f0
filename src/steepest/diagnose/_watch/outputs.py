"""Which of the tensors that a model returns is its prediction: the one that the loss depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Output", "feeds", "prediction"]


@dataclass
class Output:
    """One tensor among those that a model returned.

    Attributes:
        shape: Its shape.
        sample: A sample of it.
        feeds: The places of those that were computed from it.
        gradient: The root mean square over examples of ||dL_i/d output||, summed over the passes of a step; None while
            no backward pass has reached it.
        whole: The whole tensor, as long as it is needed.
        slope: Its whole gradient, likewise.
    """

    shape: tuple[int, ...]
    sample: Tensor
    feeds: frozenset[int]
    gradient: Tensor | float | None = None
    whole: Tensor | None = None
    slope: Tensor | None = None


def prediction(outputs: Sequence[Output], target: tuple[int, ...] | None) -> Output | None:
    """Return the prediction among the outputs; None if that is not known.

    The loss depends on it: a backward pass has come to it. And it was not merely computed on the way to another one, as
    hidden states are. Of several it is the one whose shape matches the target's.
    """
    compared = [each.gradient is not None for each in outputs]
    reached = [o for o, here in zip(outputs, compared, strict=True) if here and not any(compared[i] for i in o.feeds)]
    if len(reached) > 1 and target is not None:
        reached = [each for each in reached if _goes_with(each.shape, target)]
    return reached[0] if len(reached) == 1 else None


def feeds(tensors: Sequence[Tensor]) -> list[frozenset[int]]:
    """Return for each tensor the places of those that were computed from it, by the graph behind them."""
    places = {tensor.grad_fn: i for i, tensor in enumerate(tensors) if tensor.grad_fn is not None}
    found: list[set[int]] = [set() for _ in tensors]
    for end, last in places.items():
        seen: set[Any] = {end}
        left: list[Any] = [end]
        while left:
            for node, _ in left.pop().next_functions:
                if node is not None and node not in seen:
                    seen.add(node)
                    left.append(node)
                    if node in places:
                        found[places[node]].add(last)
    return [frozenset(each) for each in found]


def _goes_with(output: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Return whether a loss can compare them: the same shape, or one more axis, of classes, last or second."""
    if _without_ones(output) == _without_ones(target):
        return True
    return len(output) > 1 and target in (output[:-1], (output[0], *output[2:]))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:1], *(n for n in shape[1:] if n != 1))
