"""A point as one flat vector, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steepest import _check
from steepest.errors import InvalidArgument
from steepest.estimators._estimate import Point

__all__ = ["Space"]


class Space:
    """The point x as a vector of d numbers, and rows of such numbers as points.

    Args:
        x: The point, as a user passed it.

    Attributes:
        size: d.
        flat: x as a vector [d], in the arithmetic of the estimator: float32 where x has 16 bits.
        device: The device of x.

    Raises:
        InvalidArgument: If x is neither a floating-point tensor nor such tensors by name, on one device.
    """

    __slots__ = ("_dtypes", "_shapes", "device", "flat", "named", "shape", "size")

    def __init__(self, x: Point) -> None:
        if isinstance(x, Tensor):
            tensor = _check.floating("x", x).detach()
            self.named: tuple[str, ...] | None = None
            self.shape, self._shapes, self._dtypes = tensor.shape, (tensor.shape,), (tensor.dtype,)
            # A copy, since an objective may work in place.
            self.flat = tensor.float().reshape(-1) if tensor.dtype.itemsize < 4 else tensor.clone().reshape(-1)
        else:
            named = tensors_by_name(x)
            self.named, self.shape = tuple(named), torch.Size(())
            self._shapes = tuple(each.shape for each in named.values())
            self._dtypes = tuple(each.dtype for each in named.values())
            dtype = arithmetic(self._dtypes)
            self.flat = torch.cat([each.detach().reshape(-1).to(dtype) for each in named.values()])
        self.size, self.device = self.flat.numel(), self.flat.device
        if not self.size:
            raise InvalidArgument(
                "x must have at least one entry", got="none", remedy="Pass a point of d >= 1 numbers."
            )

    def points(self, rows: Tensor) -> Any:
        """Return rows [n, d] as points for a batched objective: a tensor [n, *shape], or such tensors by name."""
        count = rows.shape[0]
        if self.named is None:
            found = rows if len(self.shape) == 1 else rows.view(count, *self.shape)
            return found if found.dtype is self._dtypes[0] else found.to(self._dtypes[0])
        parts = rows.split([math.prod(shape) for shape in self._shapes], dim=1)
        return {
            name: part.reshape(count, *shape).to(dtype)
            for name, part, shape, dtype in zip(self.named, parts, self._shapes, self._dtypes, strict=True)
        }

    def rounded(self, rows: Tensor) -> Tensor:
        """Return rows as the objective sees them: rounded to the data types of x."""
        if all(dtype is rows.dtype for dtype in self._dtypes):
            return rows
        parts = rows.split([math.prod(shape) for shape in self._shapes], dim=-1)
        return torch.cat([part.to(dtype).to(rows.dtype) for part, dtype in zip(parts, self._dtypes, strict=True)], -1)

    @property
    def precision(self) -> float:
        """The relative spacing of numbers in the coarsest data type of x."""
        return max(torch.finfo(each).eps for each in self._dtypes)

    def point(self, row: Tensor) -> Any:
        """Return a row [d] as one point, in the structure of x."""
        if self.named is None:
            found = row if len(self.shape) == 1 else row.view(self.shape)
            return found if found.dtype is self._dtypes[0] else found.to(self._dtypes[0])
        parts = row.split([math.prod(shape) for shape in self._shapes])
        return {
            name: part.view(shape).to(dtype)
            for name, part, shape, dtype in zip(self.named, parts, self._shapes, self._dtypes, strict=True)
        }


def tensors_by_name(x: Any) -> dict[str, Tensor]:
    """Return x as a dict of floating-point tensors.

    Raises:
        InvalidArgument: If it is no such mapping.
    """
    remedy = "For a module, pass dict(module.named_parameters())."
    given = _check.instance("x", x, Mapping, "a tensor, or tensors by name", remedy=remedy)
    for name, each in given.items():
        _check.instance("a name in x", name, str, "a string", remedy=remedy)
        _check.floating(f"x[{name!r}]", each)
    if len({each.device for each in given.values()}) > 1:
        raise InvalidArgument(
            "the tensors of x must be on one device",
            got=", ".join(dict.fromkeys(str(each.device) for each in given.values())),
            remedy="Move them with .to(device).",
        )
    if not given:
        raise InvalidArgument("x must have at least one tensor", got="none", remedy=remedy)
    return dict(given)


def arithmetic(dtypes: tuple[torch.dtype, ...]) -> torch.dtype:
    """Return the data type in which tensors of these types are combined: float64 if one is, else float32."""
    return torch.float64 if torch.float64 in dtypes else torch.float32
