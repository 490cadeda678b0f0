"""The size of a tensor's entries: divided by it, no square leaves the range of the dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from steepest._shapes import Float

__all__ = ["largest_entry"]


def largest_entry(x: Float[Tensor, "*shape"], dim: tuple[int, ...] = ()) -> Tensor:
    """Return max |x_i| over the dimensions `dim`, which are kept with size 1, or over all; 1 where that is 0.

    It is a constant to autograd: what is divided by it and multiplied with it again does not depend on it.
    """
    x = x.detach()
    if not x.numel():
        return x.new_ones(())
    # Many times faster than vector_norm with the order infinity.
    if dim:
        largest = torch.maximum(x.amax(dim, keepdim=True), -x.amin(dim, keepdim=True))
    else:
        largest = torch.stack(torch.aminmax(x)).abs().amax()
    return torch.where(largest > 0, largest, 1)
