"""The content of a task's data: whole tensors, or a sample of a Dataset's examples."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from steepest._contained import contained, last_line
from steepest._random import seeded
from steepest.compare._identity.identity import alike
from steepest.compare._identity.sketch import sketch
from steepest.errors import TaskError

__all__ = ["POSITIONS", "describe_data"]

POSITIONS = 64
"""The number of examples of a Dataset that are examined."""


def describe_data(name: str, data: Dataset[Any] | tuple[Tensor, ...]) -> tuple[dict[str, Any], int]:
    """Return the content of data as an `Identity` holds it, and how many examples came out different when read again.

    Tensors, and those of a TensorDataset, are examined whole (see `sketch`). Of any other Dataset, which may be too
    large to read, 64 examples are: the first, the last, and equally spaced ones between. Each is read twice with the
    same seeds for torch, numpy and Python; an example that still comes out different is left out.

    Args:
        name: A name for the data, such as "data of train".
        data: Tensors or a map-style Dataset.

    Raises:
        TaskError: If an example cannot be read.
    """
    if isinstance(data, tuple | TensorDataset):
        tensors = data if isinstance(data, tuple) else data.tensors
        whole: dict[str, Any] = {f"{name}, tensor {i}": sketch(tensor) for i, tensor in enumerate(tensors)}
        return {f"{name}, number of examples": len(tensors[0]), f"{name}, number of tensors": len(tensors), **whole}, 0
    length = len(cast(Any, data))
    found: dict[str, Any] = {f"{name}, number of examples": length}
    unsteady = 0
    for i in dict.fromkeys(round(k * (length - 1) / (POSITIONS - 1)) for k in range(POSITIONS)):
        first, second = _read(name, data, i), _read(name, data, i)
        if len(first) == len(second) and all(map(alike, first, second)):
            found.update({f"{name}, example {i}" + (f", part {k}" if k else ""): part for k, part in enumerate(first)})
        else:
            unsteady += 1
    return found, unsteady


def _read(name: str, data: Dataset[Any], i: int) -> list[Any]:
    try:
        with contained(f"the {name}"), _seeded_everywhere(i):
            return _parts(data[i])
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(
            f"the {name} must be a Dataset all of whose examples can be read",
            got=f"example {i}: {last_line(error)}",
            remedy="Fix or leave out this example.",
        ) from error


def _parts(item: Any) -> list[Any]:
    """Return each tensor, number and text of an example."""
    if isinstance(item, Tensor):
        return [sketch(item)]
    if isinstance(item, bool | int | str | bytes | type(None)):
        return [repr(item)]
    if isinstance(item, float):
        return [sketch(torch.tensor(item, dtype=torch.float64))]
    if isinstance(item, Mapping):
        named = sorted(cast("Mapping[Any, Any]", item).items(), key=lambda pair: str(pair[0]))
        return [part for key, value in named for part in (repr(key), *_parts(value))]
    if isinstance(item, list | tuple):
        return [part for value in cast("list[Any]", item) for part in _parts(value)]
    array = np.asarray(item)  # numpy's own, and images
    if array.dtype == object:
        return [type(item).__qualname__]
    if array.dtype.kind in "biufc" and array.dtype != np.longdouble:
        return [sketch(torch.from_numpy(np.array(array)))]
    return [repr(array.tolist())]


@contextlib.contextmanager
def _seeded_everywhere(seed: int) -> Generator[None, None, None]:
    python, arrays = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with seeded(seed):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
