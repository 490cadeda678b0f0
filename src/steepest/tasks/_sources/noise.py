"""Random numbers that data draw from global generators, apart from those of the model."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch

__all__ = ["Noise"]

_NUMPY: Any = np.random  # its stubs leave out the functions that exchange its bit generator


class Noise:
    """A context in which torch's, numpy's and Python's global generators are those of the data.

    When it is entered again, they go on where they stopped; outside they are as they would be without it (but for a
    second normal number that numpy may have kept from the last pair). So what a
    Dataset draws (augmentation, a shuffle) depends on the seed alone and not on what an optimizer or a model draws.

    Args:
        seed: Any whole number >= 0. The generators get another one made from it, so that data and model that are given
            the same seed do not draw the same numbers.
    """

    def __init__(self, seed: int) -> None:
        self.seed = int.from_bytes(hashlib.sha256(f"data {seed}".encode()).digest()[:7], "big")
        self._inside: tuple[Any, Any, Any] = (
            torch.Generator().manual_seed(self.seed).get_state(),
            random.Random(self.seed).getstate(),
            np.random.MT19937(self.seed),
        )
        self._outside: list[tuple[Any, Any, Any]] = []

    def __enter__(self) -> None:
        self._outside.append(_states())
        _set(self._inside)

    def __exit__(self, *_error: object) -> None:
        self._inside = _states()
        _set(self._outside.pop())


def _states() -> tuple[Any, Any, Any]:
    return torch.default_generator.get_state(), random.getstate(), _NUMPY.get_bit_generator()


def _set(states: tuple[Any, Any, Any]) -> None:
    torch.default_generator.set_state(states[0])
    random.setstate(states[1])
    _NUMPY.set_bit_generator(states[2])  # ten times as fast as its state, which matters for each batch
