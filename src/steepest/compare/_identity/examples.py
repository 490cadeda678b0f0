"""The content of a task's data: whole tensors, a sample of a Dataset's examples, or the first batches."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from steepest._contained import contained, last_line
from steepest.compare._identity.identity import alike
from steepest.compare._identity.sketch import sketch
from steepest.errors import SteepestError, TaskError
from steepest.tasks import Task
from steepest.tasks._batch import leaves
from steepest.tasks._sources.noise import Noise
from steepest.tasks._sources.tensors import Tensors

__all__ = ["describe_data", "holds_tensors"]

_EXAMPLES = 64
"""The number of examples of a Dataset that are examined."""

_BATCHES = 8
"""The number of batches that are examined where examples have no numbers."""


def holds_tensors(task: Task, field: str) -> bool:
    """Return whether the data are tensors, which are examined whole."""
    return isinstance(task._source(field), Tensors)


def describe_data(task: Task, field: str) -> tuple[dict[str, Any], str | None]:
    """Return the content of the data as an `Identity` holds it, and a notice if some come out different each time.

    Tensors, and those of a TensorDataset, are examined whole (see `sketch`). Of any other Dataset, which may be too
    large to read, 64 examples are: the first, the last, and equally spaced ones between; of streams and DataLoaders
    the first eight batches. All are read twice with the same seeds for torch, numpy and Python; what still comes out
    different is left out.

    Args:
        task: The task.
        field: "train" or "valid".

    Raises:
        TaskError: If the data cannot be read.
    """
    data, name = getattr(task, field), f"data of {field}"
    if holds_tensors(task, field):
        places = list(leaves(data.tensors if isinstance(data, TensorDataset) else data))
        whole: dict[str, Any] = {f"{name}, tensor {place[1:-1]}": sketch(tensor) for place, tensor in places}
        return {
            f"{name}, number of examples": len(places[0][1]),
            f"{name}, number of tensors": len(places),
            **whole,
        }, None
    size = task._source(field).size
    if size is None:
        found: dict[str, Any] = {}
        readings = enumerate(
            itertools.zip_longest(_first_batches(task, field), _first_batches(task, field), fillvalue=[])
        )
        kind = "batch"
    else:
        found = {f"{name}, number of examples": size}
        numbers = dict.fromkeys(round(k * (size - 1) / (_EXAMPLES - 1)) for k in range(_EXAMPLES))
        readings = ((i, (_read(name, data, i), _read(name, data, i))) for i in numbers)
        kind = "example"
    unsteady = examined = 0
    for i, (first, second) in readings:
        examined += 1
        if len(first) == len(second) and all(map(alike, first, second)):
            found.update({f"{name}, {kind} {i}" + (f", part {k}" if k else ""): part for k, part in enumerate(first)})
        else:
            unsteady += 1
    of = "examples" if kind == "example" else "batches"
    notice = (
        f"{unsteady} of the {examined} examined {of} of {field} come out different when read again, and are left out: "
        "a change of them is not detected."
    )
    return found, notice if unsteady else None


def _first_batches(task: Task, field: str) -> list[list[Any]]:
    name = f"data of {field}"
    try:
        with contained(f"the {name}"):
            batches = task.batches(torch.Generator().manual_seed(0)) if field == "train" else task.validation_batches()
            return [_parts(batch) for batch in itertools.islice(batches, _BATCHES)]
    except SteepestError:
        raise
    except Exception as error:
        raise TaskError(
            f"the {name} must give batches", got=last_line(error), remedy="Read them by hand: next(iter(...))."
        ) from error


def _read(name: str, data: Any, i: int) -> list[Any]:
    try:
        with contained(f"the {name}"), Noise(i):
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
