"""What one averaging costs: messages, their size, and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from steepest import _check

__all__ = ["Cost", "checked_size", "chunk_bounds", "ring_messages"]


@dataclass(frozen=True)
class Cost:
    """What one averaging over all workers sends.

    Attributes:
        messages: How many messages all workers, and a separate server, send together.
        parameters_per_message: The size of a message in parameters; the mean size where chunks differ by one.
        bytes: The payload of all messages together.

    >>> from steepest.communication import Ring
    >>> Ring().cost(workers=4, parameters=1000)
    Cost(messages=24, parameters_per_message=250.0, bytes=24000)
    """

    messages: int
    parameters_per_message: float
    bytes: int


def checked_size(workers: int, parameters: int, dtype: torch.dtype) -> tuple[int, int, int]:
    """Return workers, parameters and the bytes of one parameter, checked."""
    workers = _check.at_least("workers", workers, 1)
    parameters = _check.at_least("parameters", parameters, 0)
    _check.instance("dtype", dtype, torch.dtype, "a torch.dtype", remedy="Try torch.float32.")
    return workers, parameters, dtype.itemsize


def chunk_bounds(parameters: int, workers: int) -> list[tuple[int, int]]:
    """Return where each of n chunks begins and ends; the first p mod n hold one parameter more.

    >>> chunk_bounds(10, 4)
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    """
    size, more = divmod(parameters, workers)
    return list(pairwise(rank * size + min(rank, more) for rank in range(workers + 1)))


def ring_messages(parameters: int, workers: int, rank: int) -> list[int]:
    """Return the parameters in each of the 2(n-1) messages that a worker of a ring sends.

    >>> ring_messages(10, 4, rank=0)
    [3, 2, 2, 3, 3, 2]
    """
    sizes = [high - low for low, high in chunk_bounds(parameters, workers)]
    starts = (rank, rank + 1)  # In the second half, a worker begins with the chunk of which it holds the sum.
    return [sizes[(start - step) % workers] for start in starts for step in range(workers - 1)]
