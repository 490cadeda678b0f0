"""What stands in the values that a model takes and returns, and in the graph behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steepest._sharding import is_sharded

__all__ = ["floating", "inside_transform", "strangers"]


def floating(value: Any) -> Tensor | None:
    """Return the first dense floating tensor in what a module takes or returns; of a mapping the "logits" first."""
    if isinstance(value, Mapping) and "logits" in value:
        value = value["logits"]
    return next((tensor for tensor in _tensors(value) if _is_plain(tensor)), None)


def strangers(output: Tensor, inputs: Any, known: set[nn.Parameter]) -> list[tuple[int, ...]]:
    """Return the shapes of the parameters on which a model's output depends and that none of its modules holds.

    The graph is followed back to the inputs; what they depend on is not the model's.
    """
    if any(map(is_sharded, known)):  # a sharded model computes with parameters made for the moment
        return []
    given = list(_tensors(inputs))
    ends = {tensor.grad_fn for tensor in given if tensor.grad_fn is not None}
    leaves = {id(tensor) for tensor in given}
    found: dict[int, tuple[int, ...]] = {}
    seen: set[Any] = set(ends)
    left = [output.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter) and variable not in known and id(variable) not in leaves:
            found[id(variable)] = tuple(variable.shape)
        left.extend(each for each, _ in node.next_functions)
    return list(found.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 0 and tensor.numel() > 0 and tensor.layout == torch.strided


def inside_transform() -> bool:
    """Return whether torch.func's grad, vmap or the like is at work: its tensors have no memory to look into."""
    functorch: Any = torch._C.__dict__["_functorch"]
    return functorch.peek_interpreter_stack() is not None
