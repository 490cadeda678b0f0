"""Shapes in annotations: jaxtyping where it is installed (the tests check them), plain tensors where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

__all__ = ["Float"]

if TYPE_CHECKING:
    from jaxtyping import Float
else:
    try:
        from jaxtyping import Float
    except ImportError:

        class Float:
            """Stands for `jaxtyping.Float`: `Float[Tensor, "rows columns"]` is then just `Tensor`."""

            def __class_getitem__(cls, item: tuple[type[Tensor], str]) -> Any:
                """Drop the shape, keep the array type."""
                return item[0]
