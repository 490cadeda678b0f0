"""The parts of an optimizer of this library, and the joint norm in which all of them step together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from steepest.norms import L2, Blockwise, Ellipsoid, Lp, Norm, Scaled
from steepest.optim import SteepestDescent

__all__ = ["Joined", "Part", "diagonal_of", "joint_norm", "parts_of"]


@dataclass(frozen=True)
class Part:
    """A part that steps independently: a parameter, or all parameters of a group with a norm of the network.

    Attributes:
        norm: Of a tensor of this shape.
        shape: A parameter's, or (n,) of several that are joined.
        rate: The learning rate times the factor of its group.
    """

    norm: Norm
    shape: tuple[int, ...]
    rate: float


@dataclass(frozen=True)
class Joined(Norm):
    """A norm of tensors by name as one of a vector, in which they are flattened and joined.

    Attributes:
        norm: Of the tensors by name.
        layout: Their names and shapes in order.
    """

    norm: Blockwise
    layout: tuple[tuple[str, tuple[int, ...]], ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the norm of the parts."""
        return self.norm(self._cut(x))

    def dual_norm(self, g: Tensor) -> Tensor:
        """Return the dual norm of the parts."""
        return self.norm.dual_norm(self._cut(g))

    def duality_map(self, g: Tensor) -> Tensor:
        """Return the duality map of the parts, joined again."""
        mapped = self.norm.duality_map(self._cut(g))
        return torch.cat([mapped[name].flatten() for name, _ in self.layout])

    def exactly(self) -> Joined:
        """Return the same with nothing approximated in the parts."""
        return replace(self, norm=self.norm.exactly())

    def _cut(self, x: Tensor) -> dict[str, Tensor]:
        ends = accumulate((math.prod(shape) for _, shape in self.layout), initial=0)
        bounds = zip(self.layout, pairwise(ends), strict=True)
        return {name: x[start:end].reshape(shape) for (name, shape), (start, end) in bounds}


def parts_of(optimizer: SteepestDescent) -> list[Part]:
    """Return the parts that step independently, in the order of the parameters."""
    parts: list[Part] = []
    for group in optimizer.param_groups:
        norm, rate = group["norm"], float(group["lr"]) * float(group["factor"])
        shapes = [tuple(p.shape) for p in group["params"]]
        if not isinstance(norm, Blockwise):
            parts += [Part(norm, shape, rate) for shape in shapes]
        elif norm.combine == "l2" and group["mode"] == "penalized":  # each block's step is its own
            blocks = norm.norms
            parts += [Part(blocks[name], shape, rate) for name, shape in zip(group["param_names"], shapes, strict=True)]
        else:
            layout = tuple(zip(group["param_names"], shapes, strict=True))
            parts.append(Part(Joined(norm, layout), (sum(map(math.prod, shapes)),), rate))
    return parts


def joint_norm(parts: Sequence[Part]) -> tuple[Norm, tuple[int, ...]]:
    """Return the norm, and the shape that it takes, in which penalized steps of all parts are one step of size 1.

    With ||x||^2 = sum_k ||x_k||_k^2 / rate_k the penalized step -||g||_* d(g) moves part k by
    -rate_k ||g_k||_* d_k(g_k).

    Args:
        parts: With rates above 0.
    """
    if len(parts) == 1:
        part = parts[0]
        return _in_float64(part.norm), part.shape
    largest = max(part.rate for part in parts)
    blocks = {
        f"{k:06d}": Scaled(_in_float64(part.norm), by=(largest / part.rate) ** 0.5) for k, part in enumerate(parts)
    }
    layout = tuple((name, part.shape) for name, part in zip(blocks, parts, strict=True))
    return Joined(Blockwise(blocks, combine="l2"), layout), (sum(math.prod(part.shape) for part in parts),)


def diagonal_of(parts: Sequence[Part]) -> Tensor | None:
    """Return the D with which the penalized step is -D g, or None where a part has none."""
    each = [_diagonal(part.norm, part.shape) for part in parts]
    if any(diagonal is None for diagonal in each):
        return None
    return torch.cat([part.rate * diagonal for part, diagonal in zip(parts, each, strict=True) if diagonal is not None])


def _diagonal(norm: Norm, shape: tuple[int, ...]) -> Tensor | None:
    if isinstance(norm, Scaled):
        inner = _diagonal(norm.norm, shape)
        return None if inner is None else inner / norm.by / norm.by
    if isinstance(norm, Ellipsoid):
        return norm.diagonal.to("cpu", torch.float64).expand(shape).flatten()
    if isinstance(norm, L2) or (isinstance(norm, Lp) and norm.p == 2):
        return torch.ones(math.prod(shape), dtype=torch.float64)
    return None


def _in_float64(norm: Norm) -> Norm:
    """Return the norm with the numbers that it holds as a penalized step takes them."""
    if isinstance(norm, Scaled):
        return replace(norm, norm=_in_float64(norm.norm))
    return Ellipsoid(norm.diagonal.to("cpu", torch.float64)) if isinstance(norm, Ellipsoid) else norm
