"""Shapes in annotations: jaxtyping's if it is already loaded (by the tests, which check them), else plain tensors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor

__all__ = ["Float"]

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Float
else:

    class Float:
        """Stands for `jaxtyping.Float`: `Float[Tensor, "rows columns"]` is then just `Tensor`."""

        def __class_getitem__(cls, item: tuple[type[Tensor], str]) -> Any:
            """Drop the shape, keep the array type."""
            return item[0]
