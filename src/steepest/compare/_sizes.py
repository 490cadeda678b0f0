"""The sizes of what is trained."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from steepest.tasks import Task

__all__ = ["sizes_of"]


def sizes_of(task: Any) -> dict[str, int]:
    """Return the numbers of parameters and examples, and the batch size, by name, as far as they are known."""
    if not isinstance(task, Task):  # a program makes its own model and data
        return {}
    model = task.build(seed=0)
    data = {"training examples": task.train, "validation examples": task.valid}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **{name: count for name, given in data.items() if (count := _length(given)) is not None},
        "batch size": task.batch_size,
    }


def _length(data: Any) -> int | None:
    if isinstance(data, tuple):
        data = data[0]
    try:
        return len(data) if isinstance(data, Sized) else None
    except Exception:  # a stream that has a length by name only
        return None
