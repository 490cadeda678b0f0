"""The position of the examples in a tensor inside of a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Layout", "candidates", "matches"]


@dataclass(frozen=True)
class Layout:
    """The axis of the examples: of size n, or of size n r where another axis was merged into it.

    Attributes:
        axis: The axis.
        outer: Where r > 1, whether the examples are the slower of the two: [n, r] and not [r, n].
    """

    axis: int
    outer: bool = True

    def split(self, x: Tensor, n: int, offset: int = 0) -> Tensor:
        """Return x with the examples as its first dimension; what they were merged with stays where it was.

        Args:
            x: Any tensor that has this layout after its first `offset` dimensions.
            n: The number of examples.
            offset: Dimensions before those that the layout counts.
        """
        k = self.axis + offset
        r = x.shape[k] // n
        if r == 1:
            return x.transpose(0, 1) if k == 1 else x.movedim(k, 0) if k else x
        if self.outer:
            return x.unflatten(k, (n, r)).movedim(k, 0)
        return x.unflatten(k, (r, n)).movedim(k + 1, 0)

    def spread(self, weights: Tensor, lead: torch.Size) -> Tensor:
        """Return one weight per example, at the positions of its example, ready to be broadcast over `lead`."""
        r = lead[self.axis] // len(weights)
        along = weights.repeat_interleave(r) if self.outer else weights.repeat(r)
        return along.reshape([-1 if i == self.axis else 1 for i in range(len(lead))])


def candidates(lead: torch.Size, n: int) -> Iterator[Layout]:
    """Yield every layout that n examples may have in positions of shape `lead`, the most usual first."""
    exact = [axis for axis, size in enumerate(lead) if size == n]
    yield from (Layout(axis) for axis in exact)
    for axis, size in enumerate(lead):
        if size > n and size % n == 0:
            yield from (Layout(axis, outer) for outer in (True, False))


def matches(layout: Layout, plain: Tensor, weighted: Tensor, weights: Tensor, lead: int, tolerance: float) -> bool:
    """Return whether two cotangents show this layout.

    The outputs of example i were given the seed r in one backward pass and w_i r in the other. Where a position
    belongs to example i alone, the second cotangent is w_i times the first; where examples are coupled, or share the
    position, it is not.

    Args:
        layout: The candidate.
        plain: The first cotangent.
        weighted: The second.
        weights: w, one number per example.
        lead: How many of the cotangent's leading dimensions are positions.
        tolerance: Relative to the second cotangent's norm.
    """
    spread = layout.spread(weights, plain.shape[:lead])
    spread = spread.reshape(spread.shape + (1,) * (plain.ndim - lead))
    return bool((weighted - plain * spread).norm() <= tolerance * weighted.norm())
