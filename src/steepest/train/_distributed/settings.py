"""What every worker of a run is told."""

from __future__ import annotations

from dataclasses import dataclass

from steepest.communication import Deadlines, Scheme
from steepest.train._distributed.faults import Fault
from steepest.train._settings import RunSettings

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings):
    """The arguments of a run with several workers, checked; see `steepest.train.train_distributed`.

    Attributes:
        looks: The steps after which the model is validated.
        threads: Threads of each worker's operations.
    """

    looks: frozenset[int]
    scheme: Scheme
    faults: tuple[Fault, ...] = ()
    deadlines: Deadlines | None = None
    threads: int = 1
