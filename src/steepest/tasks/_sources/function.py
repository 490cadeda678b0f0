"""Data that a user's function makes: it is called once per run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Generator, Tensor
from torch.utils.data import Dataset

from steepest._contained import last_line
from steepest.errors import SteepestError, TaskError
from steepest.tasks._sources.loader import Batches, Loader
from steepest.tasks._sources.noise import Noise
from steepest.tasks._sources.source import Source

__all__ = ["Function"]


class Function(Source):
    """A function without arguments that returns a DataLoader, or another iterable of batches.

    Args:
        field: "train" or "valid".
        function: The function.
    """

    def __init__(self, field: str, function: Callable[[], Any]) -> None:
        super().__init__(field)
        self._function = function

    def batches(self, generator: Generator, batch_size: int) -> Iterator[Any]:
        """Return an iterator of the batches of a new DataLoader, pass after pass."""
        return Loader(self.field, self.made(generator.initial_seed()).batches).batches(generator, batch_size)

    def validation(self, batch_size: int) -> Iterator[Any]:
        """Return an iterator over the batches of a new DataLoader."""
        return Loader(self.field, self.made(0).batches).validation(batch_size)

    def made(self, seed: int) -> Batches:
        """Return what the function makes, with the global generators seeded.

        Raises:
            TaskError: If that fails, or is no iterable of batches.
        """
        rule = f"the function {self.field} must return a DataLoader, or another iterable of batches"
        remedy = "Return torch.utils.data.DataLoader(dataset, ...) from it."
        try:
            with Noise(seed):
                found = self._function()
        except SteepestError:
            raise
        except Exception as error:
            raise TaskError(rule, got=last_line(error), remedy=remedy) from error
        if isinstance(found, (Tensor, Dataset, Mapping, str, tuple)) or not isinstance(found, Iterable):
            raise TaskError(rule, got=type(found).__name__, remedy=remedy)
        return Batches(found)
