"""What norms measure, drawn and reckoned with: tensors, and networks' tensors by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

Point = Tensor | dict[str, Tensor]
Shape = tuple[int, ...] | dict[str, tuple[int, ...]]


def gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rank_one(shape: tuple[int, ...], seed: int) -> Tensor:
    """An outer product over the dimensions, so that every matrix that can be read from it has rank 1."""
    x = torch.ones((), dtype=torch.float64)
    for i, size in enumerate(shape):
        x = x.unsqueeze(-1) * gaussian((size,), seed + i)
    return x


def small_integers(shape: tuple[int, ...], seed: int) -> Tensor:
    """Ties, zeros and rows that depend on each other."""
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).double()


def zeros(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


KINDS = [gaussian, rank_one, small_integers, zeros]


def each(function: Callable[..., Tensor], *points: Point) -> Point:
    """Apply a function of tensors to points: to tensors, or to the tensors of networks name by name."""
    if isinstance(points[0], dict):
        return {name: function(*(point[name] for point in points)) for name in points[0]}
    return function(*points)


def parts(x: Point) -> list[Tensor]:
    return list(x.values()) if isinstance(x, dict) else [x]


def generic(shape: Shape, seed: int) -> Point:
    if isinstance(shape, dict):
        return {name: gaussian(size, seed + 1000 * i) for i, (name, size) in enumerate(shape.items())}
    return gaussian(shape, seed)


@st.composite
def points(draw: st.DrawFn, shapes: list[Shape], count: int = 1) -> list[Point]:
    """Some points of one of the shapes, each tensor of any kind."""
    shape = draw(st.sampled_from(shapes))
    kinds, seeds = st.sampled_from(KINDS), st.integers(0, 10**6)
    if isinstance(shape, dict):
        return [{name: draw(kinds)(size, draw(seeds)) for name, size in shape.items()} for _ in range(count)]
    return [draw(kinds)(shape, draw(seeds)) for _ in range(count)]


def cast(x: Point, dtype: torch.dtype) -> Point:
    return each(lambda part: part.to(dtype), x)


def times(x: Point, factor: float) -> Point:
    return each(lambda part: part * factor, x)


def added(x: Point, y: Point) -> Point:
    return each(torch.add, x, y)


def inner(x: Point, y: Point) -> float:
    return float(sum((a.double() * b.double()).sum() for a, b in zip(parts(x), parts(y), strict=True)))


def is_zero(x: Point) -> bool:
    return not any(part.any() for part in parts(x))


def largest(x: Point) -> float:
    return max(float(part.abs().max()) for part in parts(x))


def assert_close(x: Point, y: Point, tolerance: float) -> None:
    torch.testing.assert_close(x, y, rtol=0, atol=tolerance)
