"""What one averaging costs: messages, their size, and bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from steepest import _check

__all__ = ["Cost", "checked_size"]


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
