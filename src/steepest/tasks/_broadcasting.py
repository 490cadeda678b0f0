"""Detection of outputs and targets with different shapes that are silently broadcast against each other.

(n, 1) against (n,) gives (n, n): every output is compared with every target, and only the mean is learned. torch warns
of it in some of its losses; this module finds it in any loss or metric.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["mixed_shapes"]

_OUTPUT, _TARGET = 1, 2
_DRAWS = 3

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def mixed_shapes(function: Callable[[Any, Tensor], Any], output: Any, target: Tensor) -> Shapes | None:
    """Return the shapes if a loss or metric compares every output with every target; otherwise None.

    Two conditions must hold. First, an operation between a tensor computed from the outputs alone and one computed from
    the targets alone has a result larger than both, by aligning different numbers of dimensions from the right. Second,
    the value does not change when the targets are permuted among the examples, though it changes when all examples get
    the same target: the pairing of outputs and targets does not matter. Losses over pairs, centres or bins meet the
    first condition without the second.

    Args:
        function: loss(output, target), or a metric.
        output: The model's output for a batch.
        target: The targets of the batch, one per example.
    """
    generator = torch.Generator().manual_seed(0)
    output, target = _spread(output, generator), target.detach().cpu().clone()
    # In float64, differences stand out from rounding errors; a loss with its own weights may take float32 only.
    for exact in (True, False):
        with torch.no_grad(), contextlib.suppress(Exception):  # a loss that needs more than these is not judged
            return _mixed(function, _in_float64(output) if exact else output, target, generator)
    return None


def _mixed(function: Callable[[Any, Tensor], Any], output: Any, target: Tensor, generator: Generator) -> Shapes | None:
    with _Watch(output, target) as watch:
        value = _value(function(output, target))
    if watch.found is None or not target.ndim:
        return None
    tolerance = 100 * torch.finfo(value.dtype).eps * float(value.abs())
    others = [target[torch.randperm(len(target), generator=generator)] for _ in range(_DRAWS)]
    changes = [float((_value(function(output, each)) - value).abs()) for each in (*others, *_constant(target))]
    # For constant targets, a fraction of their variance is not finite.
    changed = [not change <= tolerance for change in changes]
    return watch.found if not any(changed[:_DRAWS]) and any(changed[_DRAWS:]) else None


class _Watch(TorchDispatchMode):
    """Tracks tensors computed from outputs and from targets; keeps the shapes of the first suspicious operation."""

    def __init__(self, output: Any, target: Tensor) -> None:
        super().__init__()
        self.found: Shapes | None = None
        self._kept: list[Tensor] = []  # alive, so that no address is used twice
        self._origins: dict[int, int] = {}
        for origin, tensors in ((_OUTPUT, _tensors(output)), (_TARGET, [target])):
            for tensor in tensors:
                self._mark(tensor, origin)

    def _mark(self, tensor: Tensor, origin: int) -> None:
        self._kept.append(tensor)
        address = tensor.untyped_storage().data_ptr()
        self._origins[address] = self._origins.get(address, 0) | origin

    def _origin(self, tensor: Tensor) -> int:
        return self._origins.get(tensor.untyped_storage().data_ptr(), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operands = list(_tensors((args, kwargs or {})))
        origins = [self._origin(tensor) for tensor in operands]
        for made in _tensors(result):
            for origin in origins:
                self._mark(made, origin)
        direct = [(t, o) for t, o in zip(operands, origins, strict=True) if any(t is each for each in args)]
        if self.found is None and [o for _, o in direct] in ([_OUTPUT, _TARGET], [_TARGET, _OUTPUT]):
            (a, origin), (b, _) = direct
            if _are_crossed(a.shape, b.shape):
                a, b = (a, b) if origin == _OUTPUT else (b, a)
                self.found = tuple(a.shape), tuple(b.shape)
        return result


def _are_crossed(a: torch.Size, b: torch.Size) -> bool:
    """Return whether two shapes of different lengths broadcast to one that is larger than both."""
    if len(a) == len(b):
        return False
    try:
        both = torch.broadcast_shapes(a, b)
    except RuntimeError:
        return False
    return both.numel() > max(a.numel(), b.numel())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in cast("Mapping[Any, Any]", value).values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in cast("list[Any]", value):
            yield from _tensors(item)


def _spread(output: Any, generator: torch.Generator) -> Any:
    """Return a copy of the outputs in which no two examples are equal, each on the same side of 0 and 1 as before."""
    if isinstance(output, Tensor):
        output = output.detach().cpu().clone()
        if output.is_floating_point() and output.ndim:
            share = torch.rand(output.shape, generator=generator).to(output.dtype)
            return torch.where(output == 0, 0.01 * share, output * (1 - 0.1 * share))
        return output
    return _inside(output, lambda item: _spread(item, generator))


def _in_float64(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.double() if output.dtype == torch.float32 else output
    return _inside(output, _in_float64)


def _inside(output: Any, change: Callable[[Any], Any]) -> Any:
    """Return a container of outputs with each of them changed."""
    if isinstance(output, Mapping):
        items = cast("Mapping[Any, Any]", output).items()
        return cast(Any, type(output))({key: change(item) for key, item in items})
    if isinstance(output, (tuple, list)):
        made = [change(item) for item in cast("list[Any]", output)]
        return type(output)(*made) if hasattr(output, "_fields") else cast(Any, type(output))(made)
    return output


def _constant(target: Tensor) -> list[Tensor]:
    """Return two constant targets: the first target everywhere, and one that differs from it everywhere."""
    differs = (target != target[:1]).flatten(1).any(dim=1) if target.ndim > 1 else target != target[:1]
    chosen = (0, int(differs.int().argmax()))
    return [target[i : i + 1].expand_as(target).clone() for i in chosen]


def _value(value: Any) -> Tensor:
    value = torch.as_tensor(value)
    return value.detach() if value.is_floating_point() else value.double()
