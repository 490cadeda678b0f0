"""How many seeds a trial runs, and when it stops."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Literal

from steepest._check import at_least, boolean, in_range, instance, one_of
from steepest.errors import InvalidArgument

__all__ = ["LOOKS", "Margin", "Sequential"]

LOOKS = (5, 10, 20, 40, 80)
"""The numbers of seeds after which a sequential trial looks at its results."""

_MOST = 100_000
_NEAR_ZERO = 3.0  # standard errors: a percentage of a mean that is closer to 0 means nothing

Until = Literal["choice", "decided", "same"]


@dataclass(frozen=True)
class Margin:
    """A difference below which two alternatives count as the same.

    Args:
        amount: The difference, > 0.
        relative: Whether it is a share of the absolute mean of the choice.

    Raises:
        InvalidArgument: If amount is not a finite positive number.
    """

    amount: float
    relative: bool = False

    def __post_init__(self) -> None:
        in_range("margin", self.amount, "(0, inf)", remedy="Leave it out, or pass for example 2% or .02.")
        boolean("relative", self.relative)

    @classmethod
    def parse(cls, value: float | str) -> Margin:
        """Return the margin that "2%" (relative) or .02 (absolute) stands for.

        Raises:
            InvalidArgument: If it is neither, or not positive.

        >>> Margin.parse("2%"), Margin.parse(0.02)
        (Margin(amount=0.02, relative=True), Margin(amount=0.02, relative=False))
        """
        if not isinstance(value, str):
            return cls(in_range("margin", value, "(0, inf)", remedy="Leave it out, or pass for example 2% or .02."))
        found = re.fullmatch(r"\s*(\+?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(%?)\s*", value, re.IGNORECASE)
        if found is None:
            raise InvalidArgument("margin must be a number or a percentage > 0", got=value, remedy="Try 2% or .02.")
        return cls(float(found[1]) / (100 if found[2] else 1), bool(found[2]))

    def at(self, mean: float, standard_error: float) -> float:
        """Return the difference for a choice of this mean; 0 where a percentage of it means nothing."""
        if not self.relative:
            return self.amount
        return 0.0 if abs(mean) <= _NEAR_ZERO * standard_error else self.amount * abs(mean)

    def __str__(self) -> str:
        return f"{100 * self.amount:g}%" if self.relative else f"{self.amount:g}"


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """How many seeds a trial runs: it looks at its results after 5, 10, 20, 40 and 80 seeds, and stops when it can.

    At each look, alternatives that others beat are eliminated and get no more seeds. The trial stops when the choice is
    at most the margin worse than the best (without a margin: when all others are eliminated), or after the last look.

    Args:
        max_seeds: The most final seeds per alternative, the last look, 5 to 100,000; None is 20, or 80 unless
            until="choice".
        until: "choice" or "decided" stop as described; they differ in max_seeds only. "same" goes on until each
            alternative that is left is known to be the same as the choice within the margin, or not.
        margin: The difference that does not matter: "2%" of the absolute mean of the choice, or .02 in units of the
            measure. None for none.
        looks: The numbers of seeds at which to look, ascending; None for those of `LOOKS` below max_seeds, and
            max_seeds. One look is a trial with a fixed number of seeds.

    Raises:
        InvalidArgument: If an argument is outside its range, or until="same" has no margin.

    >>> Sequential(max_seeds=30).looks
    (5, 10, 20, 30)
    """

    max_seeds: int | None = None
    until: Until = "choice"
    margin: float | str | Margin | None = None
    looks: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        one_of("until", self.until, ("choice", "decided", "same"))
        if self.margin is not None and not isinstance(self.margin, Margin):
            object.__setattr__(self, "margin", Margin.parse(self.margin))
        if self.until == "same" and self.margin is None:
            raise InvalidArgument(
                'until="same" must come with a margin', got=None, remedy='Pass for example margin="2%" (--margin 2%).'
            )
        most = self.max_seeds
        looks = tuple(
            at_least("a look", n, 3, most=_MOST)
            for n in instance("looks", self.looks, (tuple, list), "a tuple of whole numbers")
        )
        if any(a >= b for a, b in itertools.pairwise(looks)):
            raise InvalidArgument("looks must ascend", got=looks, remedy="Try (5, 10, 20).")
        if most is not None:
            remedy = "Pass 5 or more; for a fixed number pass seeds=3 (--seeds 3) or more."
            most = at_least("max_seeds", most, 3 if looks else LOOKS[0], most=_MOST, remedy=remedy)
            if looks and most != looks[-1]:
                raise InvalidArgument("max_seeds must be the last look", got=most, remedy="Leave one of the two out.")
        if not looks:
            most = most or (20 if self.until == "choice" else 80)
            looks = (*(n for n in LOOKS if n < most), most)
        object.__setattr__(self, "looks", looks)
        object.__setattr__(self, "max_seeds", looks[-1])
