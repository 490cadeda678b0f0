"""Hooks whose errors cannot harm the training that they watch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Guard", "Hook"]


class Guard:
    """Protects the training: the first exception of a block becomes a warning, and from then on nothing is watched."""

    def __init__(self) -> None:
        self.reason = ""

    @property
    def failed(self) -> bool:
        """Whether the monitor has failed."""
        return bool(self.reason)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not self.failed:
            self.reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            warnings.warn(
                f"the monitor has failed and switched itself off; training goes on ({self.reason})",
                RuntimeWarning,
                stacklevel=2,
            )
        return True


class Hook:
    """A hook that a copy or a pickle of the model does not take along."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        if not torch.compiler.is_compiling():
            self._call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing_to_do, ()


def _nothing_to_do() -> Callable[..., None]:
    return _do_nothing


def _do_nothing(*_: Any) -> None:
    return None
