"""Bus bandwidth, as nccl-tests defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steepest import _check
from steepest.communication._predict import whole_numbers
from steepest.errors import InvalidArgument

__all__ = ["busbw"]


def busbw(
    seconds: float | NDArray[np.float64],
    parameters: int | NDArray[np.int64],
    workers: int | NDArray[np.int64],
    *,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Return the bus bandwidth of an averaging in bytes per second.

    Of an all-reduce of S bytes in t seconds it is 2 (n - 1) / n S / t: what every link must carry at the least, so that
    it can be compared with the bandwidth of the hardware whatever n is. The averaging of any scheme is an all-reduce.

    Args:
        seconds: t, how long the averaging took; or an array.
        parameters: p, or an array.
        workers: n, or an array.
        dtype: The type of a parameter.

    Returns:
        Bytes per second: a float, or an array if an argument is one. 0 for one worker, whose averaging moves nothing.

    Raises:
        InvalidArgument: An argument is out of its range.

    Source: nccl-tests, doc/PERFORMANCE.md.

    >>> busbw(0.01, 1_000_000, 4)  # 4 MB, each link carries 1.5 times that
    600000000.0
    """
    _check.instance("dtype", dtype, torch.dtype, "a torch.dtype", remedy="Try torch.float32.")
    p, n = whole_numbers("parameters", parameters, 0), whole_numbers("workers", workers, 1)
    t = positive("seconds", seconds)
    try:
        found = 2 * (n - 1) / n * p * float(dtype.itemsize) / t
    except ValueError as error:
        shapes = f"{t.shape}, {p.shape} and {n.shape}"
        rule = "seconds, parameters and workers must have shapes that go together"
        raise InvalidArgument(rule, got=shapes, remedy="Pass arrays of one shape.") from error
    return float(found) if found.ndim == 0 else found


def positive(name: str, values: Any) -> NDArray[np.float64]:
    """Return one positive finite number, or an array of them, checked."""
    if isinstance(values, np.ndarray) and values.ndim > 0:
        if values.dtype.kind not in "iuf":
            raise InvalidArgument(f"{name} must be positive numbers", got=values.dtype, remedy="Pass numbers.")
        array = values.astype(np.float64)
        if not (np.isfinite(array).all() and (array > 0).all()):
            raise InvalidArgument(f"{name} must be positive finite numbers", got=array.tolist(), remedy="Check them.")
        return array
    return np.asarray(_check.in_range(name, values, "(0, inf)"))
