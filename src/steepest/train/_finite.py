"""Whether the parameters of a model are still finite."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

__all__ = ["FiniteParameters"]


class FiniteParameters:
    """Watches whether the parameters of a model stay finite, which its validation loss need not tell.

    The argmax of NaN is a class: an error rate stays finite where the parameters do not. A parameter that begins with
    infinite entries, such as a mask of -inf, is not watched.

    Args:
        model: The model, initialised and on its device.
    """

    def __init__(self, model: nn.Module) -> None:
        alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
        for parameter in model.parameters():
            each = parameter.detach()
            # Numbers of 8 bits are for storage: torch has no norm of them.
            has_norm = (each.is_floating_point() or each.is_complex()) and each.dtype.itemsize > 1
            if has_norm and each.numel() and each.layout == torch.strided and _largest([each]).item() != math.inf:
                alike[each.device, each.dtype].append(parameter)
        self._watched = list(alike.values())

    def hold(self) -> bool:
        """Return whether all are finite; one number leaves each device for each data type."""
        return all(bool(_largest(each).isfinite().all()) for each in self._watched)


def _largest(tensors: list[Tensor]) -> Tensor:
    """Return the largest absolute value of each tensor, NaN where it has one: no sum, which could overflow."""
    with torch.no_grad():
        return torch.stack(list(torch._foreach_norm(tensors, math.inf)))
