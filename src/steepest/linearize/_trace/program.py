"""The functions that a forward pass calls: batches that call the same are of one kind, and only some are checked."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Program"]


class Program:
    """The functions that a pass calls with the shapes that they return, and whether values decide what it does.

    Args:
        n: How many examples the batch has.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._steps: list[Hashable] = []
        self._is_steered = False

    @property
    def kind(self) -> Hashable | None:
        """The key that equal passes share; None where values decide which operations this one runs.

        They decide where one is read into Python, where examples are placed by an index, and where an operation takes
        the axis of the examples away, as what it returns may bind all of them or none.
        """
        return None if self._is_steered else tuple(self._steps)

    def calls(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Record a call."""
        if self._is_steered:
            return
        given = [*args, *kwargs.values()] if kwargs else args
        returned = list(_tensors((result,)))
        if returned:
            self._steps.append((function, *((t.shape, t.dtype) for t in returned)))
            self._steps.extend(a for a in given if isinstance(a, (int, float, str)))
            self._is_steered = _places(function, args) or self._mixes(given, returned)
        elif function is Tensor.__setitem__:
            self._steps.append(function)
            self._is_steered = _places(function, args)
        else:
            # What describes a tensor is in the shapes already.
            is_description = isinstance(result, _DESCRIPTIONS) or getattr(function, "__name__", "") in _DESCRIBE
            self._is_steered = not is_description

    def _mixes(self, given: Iterable[Any], returned: Iterable[Tensor]) -> bool:
        """Return whether the axis of the examples is in the arguments and not in the result."""
        return (
            self._n > 1
            and not any(map(self._has_examples, returned))
            and any(self._has_examples(t) for t in _tensors(given) if not isinstance(t, torch.nn.Parameter))
        )

    def _has_examples(self, t: Tensor) -> bool:
        return any(size and size % self._n == 0 for size in t.shape)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from (item for item in value if isinstance(item, Tensor))


def _places(function: Any, args: tuple[Any, ...]) -> bool:
    """Return whether values decide where entries are placed, or which are taken."""
    if function is Tensor.__getitem__ or function is Tensor.__setitem__:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(i, (Tensor, list)) for i in index)
    return getattr(function, "__name__", "").strip("_").startswith(_PLACE)


_PLACE = (
    "argsort", "argwhere", "bincount", "bucketize", "gather", "index", "kthvalue", "masked_s", "msort", "nonzero",
    "put", "scatter", "searchsorted", "segment", "sort", "take", "topk", "unique",
)  # fmt: skip
"""The prefixes of functions that place, choose or count by values."""

_DESCRIBE = frozenset(
    (
        "__get__", "__len__", "dense_dim", "dim", "element_size", "get_device", "is_complex", "is_conj",
        "is_contiguous", "is_floating_point", "is_inference", "is_neg", "is_signed", "nelement", "ndimension", "numel",
        "register_hook", "requires_grad_", "size", "storage_offset", "stride",
    )
)  # fmt: skip
"""Functions that return something else than tensors and read none of a tensor's values."""

_DESCRIPTIONS = (torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format, str, type(None))
