"""The tensors in the values that a model takes and returns, and the graph behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steepest._sharding import is_sharded

__all__ = ["candidates", "floating", "heads", "inside_transform", "unregistered"]

_DEEP, _MANY = 6, 16


def floating(value: Any) -> Tensor | None:
    """Return the first dense floating tensor in what a module takes or returns; of a mapping the "logits" first."""
    first: Any = value[0] if isinstance(value, tuple) and value else value
    if isinstance(first, Tensor) and _is_plain(first):  # nearly always, and without a generator's cost
        return first
    if isinstance(value, Mapping) and "logits" in value:
        value = value["logits"]
    return next((tensor for tensor in _tensors(value) if _is_plain(tensor)), None)


def candidates(output: Any) -> list[Tensor]:
    """Return the candidates for the prediction in a model's output: its dense floating tensors, at most 16.

    Those that need a gradient, if any does.
    """
    found: dict[int, Tensor] = {}
    for tensor in _tensors(output):
        if _is_plain(tensor) and len(found) < _MANY:
            found[id(tensor)] = tensor
    return [tensor for tensor in found.values() if tensor.requires_grad] or list(found.values())


def heads(outputs: Sequence[Tensor], layers: Mapping[Any, str]) -> set[str]:
    """Return the names of the layers that the graph reaches first on its way back from the outputs.

    Args:
        outputs: What the model returned.
        layers: The names of the layers by the node of the graph that made their output.
    """
    return {layers[node] for node in _behind(outputs, layers) if node in layers}


def unregistered(outputs: Sequence[Tensor], inputs: Any, known: set[nn.Parameter]) -> list[tuple[int, ...]]:
    """Return the shapes of parameters on which a model's outputs depend and that no module or optimizer holds.

    The graph is followed back to the inputs; what they depend on is not the model's.
    """
    if any(map(is_sharded, known)):  # a sharded model computes with parameters made for the moment
        return []
    given = list(_tensors(inputs))
    ends = {tensor.grad_fn for tensor in given if tensor.grad_fn is not None}
    leaves = {id(tensor) for tensor in given}
    found: dict[int, tuple[int, ...]] = {}
    for node in _behind(outputs, ends):
        variable = None if node in ends else getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter) and variable not in known and id(variable) not in leaves:
            found[id(variable)] = tuple(variable.shape)
    return list(found.values())


def _behind(outputs: Sequence[Tensor], ends: Container[Any]) -> Iterator[Any]:
    """Yield the nodes of the graph on its way back from the outputs, each once, and not what is behind an end."""
    seen: set[Any] = set()
    left: list[Any] = [tensor.grad_fn for tensor in outputs]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node not in ends:
            left.extend(each for each, _ in node.next_functions)


def _tensors(value: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    inside: Any = ()
    if isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, (tuple, list)):
        inside = value
    elif dataclasses.is_dataclass(value):
        inside = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    elif hasattr(value, "__dict__") and not callable(value):  # a namespace, a distribution
        inside = vars(value).values()
    if depth < _DEEP:
        for each in inside:
            yield from _tensors(each, depth + 1)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 0 and tensor.numel() > 0 and tensor.layout == torch.strided


def inside_transform() -> bool:
    """Return whether torch.func's grad, vmap or the like is at work: its tensors have no memory to look into."""
    functorch: Any = torch._C.__dict__["_functorch"]
    return functorch.peek_interpreter_stack() is not None
