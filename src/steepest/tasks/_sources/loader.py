"""Data that come as batches: a DataLoader, or another iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator
from torch.utils.data import DataLoader, IterableDataset

from steepest.errors import SteepestError, TaskError
from steepest.tasks._sources.collate import of_worker, unfailed
from steepest.tasks._sources.noise import Noise
from steepest.tasks._sources.source import Source

__all__ = ["Batches", "Loader"]

_MOST_VALIDATION_BATCHES = 10_000
"""Of data without a length; more are taken for a stream without an end."""

_END = object()


@dataclass(frozen=True)
class Batches:
    """An iterable of batches that a user's function has made, in place of the function."""

    batches: Iterable[Any]


class Loader(Source):
    """A DataLoader, which has its own batch size, order and workers.

    At the start of a run its generators are seeded, and each pass is made inside of the data's `Noise`: its order and
    the seeds of its workers depend on the seed of the run alone.

    Args:
        field: "train" or "valid".
        batches: The DataLoader, or another iterable of batches.
        described: What it is called in messages.
    """

    def __init__(self, field: str, batches: Iterable[Any], described: str = "DataLoader") -> None:
        super().__init__(field)
        self._batches, self._name = batches, f"the {described} {field}"

    def batches(self, generator: Generator, batch_size: int) -> Iterator[Any]:  # noqa: ARG002
        """Yield its batches, pass after pass.

        Raises:
            TaskError: If a pass is empty, or shorter than its length says.
        """
        noise = Noise(generator.initial_seed())
        with _Seeded(self._batches, noise.seed):
            expected, epoch, total = self._least(), 0, 0
            while True:
                _set_epoch(self._batches, epoch)
                before = total
                for batch in self._pass(noise):
                    total += 1
                    yield batch
                if total == before:
                    raise self._used_up(total)
                if expected is not None and total - before < expected:
                    raise self._too_short(total - before, expected)
                epoch += 1

    def validation(self, batch_size: int) -> Iterator[Any]:  # noqa: ARG002
        """Yield the batches of one pass.

        Raises:
            TaskError: If there is none, or no end, or fewer than its length says.
        """
        noise, expected, count = Noise(0), self._least(), 0
        with _Seeded(self._batches, noise.seed):
            _set_epoch(self._batches, 0)
            for batch in self._pass(noise):
                count += 1
                if count > _MOST_VALIDATION_BATCHES and expected is None:
                    raise TaskError(
                        f"{self._name} must end",
                        got=f"more than {_MOST_VALIDATION_BATCHES:,} batches",
                        remedy="Validate on a part of the stream, for example with itertools.islice.",
                    )
                yield batch
        if count == 0:
            raise TaskError(
                f"{self._name} must give at least one batch",
                got="none",
                remedy="Begin a new pass in each __iter__, and look for an empty file or a filter.",
            )
        if expected is not None and count < expected:
            raise self._too_short(count, expected)

    def _pass(self, noise: Noise) -> Iterator[Any]:
        try:
            with noise:
                iterator = iter(self._batches)
            while True:
                with noise:
                    batch = next(iterator, _END)
                if batch is _END:
                    return
                yield unfailed(batch)
        except SteepestError:
            raise
        except Exception as error:
            if (found := of_worker(self.field, error)) is not None:
                raise found from error
            raise

    def _least(self) -> int | None:
        """Return how many batches a pass must have at least; None where the length is not known."""
        try:
            length = len(cast(Any, self._batches))
        except (TypeError, NotImplementedError):
            return None
        loader = self._batches
        if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset) and loader.drop_last:
            length -= max(0, loader.num_workers - 1)  # each worker drops an incomplete batch of its own
        return length

    def _used_up(self, total: int) -> TaskError:
        if total:
            return TaskError(
                f"{self._name} must begin anew when it is read again, for each run and each epoch",
                got=f"used up after {total} batches",
                remedy="Make a new iterator in each __iter__ (a generator can be read once), or train for fewer steps.",
            )
        return TaskError(
            f"{self._name} must give at least one batch",
            got="none",
            remedy="It may be empty, used up by an earlier reading, or have fewer examples than a batch.",
        )

    def _too_short(self, found: int, expected: int) -> TaskError:
        return TaskError(
            f"{self._name} must have as many batches as its length says",
            got=f"the end after {found} of {expected}",
            remedy="Correct the Dataset's __len__, or what makes it end early.",
        )


class _Seeded:
    """A context that seeds the generators which a DataLoader and its samplers hold, and restores them after."""

    def __init__(self, loader: Any, seed: int) -> None:
        self._loader, self._seed = loader, seed
        holders = (loader, *_samplers(loader))
        found = [getattr(holder, "generator", None) for holder in holders] if isinstance(loader, DataLoader) else []
        self._generators = list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())
        self._states = [each.get_state() for each in self._generators]

    def __enter__(self) -> None:
        self._forget_workers()
        for each in self._generators:
            each.manual_seed(self._seed)

    def __exit__(self, *_error: object) -> None:
        self._forget_workers()
        for each, state in zip(self._generators, self._states, strict=True):
            each.set_state(state)

    def _forget_workers(self) -> None:
        """End workers that outlive a pass: they would go on with random numbers of the run before."""
        if isinstance(self._loader, DataLoader) and self._loader.persistent_workers:
            self._loader._iterator = None


def _samplers(loader: Any) -> list[Any]:
    samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    return [each for sampler in samplers for each in (sampler, getattr(sampler, "sampler", None))]


def _set_epoch(loader: Any, epoch: int) -> None:
    """Tell samplers and Datasets that shuffle by the number of the epoch."""
    for each in (*_samplers(loader), getattr(loader, "dataset", None)):
        tell = getattr(each, "set_epoch", None)
        if callable(tell):
            tell(epoch)
