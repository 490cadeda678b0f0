"""The design of a comparison: its cells, runs and budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steepest._check import at_least, boolean, instance
from steepest.compare._measure import LOSS, Measure
from steepest.compare._plan import Sequential
from steepest.errors import InvalidArgument
from steepest.train._schedules import Schedule, check_warmup, resolve_schedule, schedule_name

__all__ = ["FIRST_SEED", "Budget", "Cell", "Design", "Run", "learning_rate", "seeds_of"]

FIRST_SEED = 1000
"""The first seed of the final runs; tuning uses 0, 1, 2, ..., so that the final seeds are fresh."""

_RATES_PER_DECADE = 8


def learning_rate(grid_index: int) -> float:
    """Return the learning rate of an index of the logarithmic grid: 10^(grid_index / 8).

    >>> [round(learning_rate(n), 4) for n in (-16, -12, -8, 0)]
    [0.01, 0.0316, 0.1, 1.0]
    """
    return 10.0 ** (grid_index / _RATES_PER_DECADE)


@dataclass(frozen=True, order=True)
class Cell:
    """One alternative of a comparison: an optimizer together with an init, both by name."""

    optimizer: str
    init: str

    def __str__(self) -> str:
        return f"{self.optimizer} + {self.init}"


@dataclass(frozen=True, order=True)
class Run:
    """One training run: a cell, a learning rate (as its index in the grid) and a seed; or the repetition of one."""

    cell: Cell
    grid_index: int
    seed: int
    repeat: bool = False

    @property
    def lr(self) -> float:
        """The learning rate."""
        return learning_rate(self.grid_index)

    @property
    def phase(self) -> Literal["tuning", "final"]:
        """The phase of the run: "tuning" or "final"."""
        return "final" if self.seed >= FIRST_SEED else "tuning"

    def __str__(self) -> str:
        again = ", again" if self.repeat else ""
        return f"{self.cell}, learning rate {self.lr:.3g}, {self.phase} seed {self.seed}{again}"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The budget of each cell, the same for all.

    Args:
        steps: Training steps per run; None for the task's own number.
        evaluations: Instead of steps, the evaluations of the training loss that a run may spend, where a gradient
            source needs several per step; None for those of the steps.
        rates: Learning rates tried in tuning, at least 5: five on a logarithmic grid (half a decade apart),
            the rest where they help most. While any cell needs one more rate, every cell gets one more.
        tuning_seeds: Tuning seeds per rate, 1 to 1000.
        schedule: The learning rate schedule: a name in `steepest.train.SCHEDULES`, or a function of progress; None
            for cosine (a program has it only if it asks for a schedule).
        warmup: Steps over which the rate rises to its full value before the schedule begins: a whole number, or a share
            of the run, as 0.05 or "5%".

    Raises:
        InvalidArgument: If a number is outside its range, there is no such schedule, or both steps and evaluations are
            given.
    """

    steps: int | None = None
    rates: int = 7
    tuning_seeds: int = 3
    schedule: Schedule | None = None
    warmup: int | float | str = 0
    evaluations: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            at_least("steps", self.steps, 1)
        if self.evaluations is not None:
            at_least("evaluations", self.evaluations, 1)
            if self.steps is not None:
                raise InvalidArgument("a budget must have steps or evaluations, not both", got="both")
        at_least("rates", self.rates, 5)
        at_least("tuning_seeds", self.tuning_seeds, 1, most=FIRST_SEED)
        if self.schedule is not None:
            resolve_schedule(self.schedule)
        object.__setattr__(self, "warmup", check_warmup(self.warmup))

    @property
    def schedule_name(self) -> str:
        """The name of the schedule; that of a function is its own."""
        return schedule_name(self.schedule or "cosine")


@dataclass(frozen=True, kw_only=True)
class Design:
    """The specification that determines the runs of a comparison.

    Attributes:
        cells: The alternatives, with the grid index at which each tuning grid is centred.
        budget: The tuning budget of each cell.
        seeds: How many seeds are run, and when the trial stops; a whole number >= 3 is a fixed number of seeds.
        measure: What decides.
        repeat: Whether the first final run is made twice, to see whether its seed decides its result.
    """

    cells: dict[Cell, int]
    budget: Budget
    seeds: Sequential
    measure: Measure = LOSS
    repeat: bool = False

    def __post_init__(self) -> None:
        instance("budget", self.budget, Budget, "a Budget")
        instance("measure", self.measure, Measure, "a Measure")
        boolean("repeat", self.repeat)
        object.__setattr__(self, "seeds", seeds_of(self.seeds))
        if not instance("cells", self.cells, dict, "a dict from cells to whole numbers"):
            raise InvalidArgument("cells must not be empty", got=self.cells, remedy="Pass at least one.")
        for cell, centre in self.cells.items():
            instance("a cell", cell, Cell, "a Cell")
            instance("the centre of a cell's grid", centre, int, "a whole number")

    @property
    def final_seeds(self) -> range:
        """The seeds of the final runs, as many as there are at most."""
        return range(FIRST_SEED, FIRST_SEED + self.seeds.looks[-1])


def seeds_of(seeds: int | Sequential | None) -> Sequential:
    """Return how many seeds are run: a number is fixed, None is `Sequential()`.

    Raises:
        InvalidArgument: If it is no whole number from 3 to 100,000.
    """
    if seeds is None or isinstance(seeds, Sequential):
        return seeds or Sequential()
    return Sequential(looks=(at_least("seeds", seeds, 3, most=100_000, remedy="Pass 10 or more to decide something."),))
