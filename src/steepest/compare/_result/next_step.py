"""What to run next, as a sentence and as a command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from steepest.compare._duration import about
from steepest.compare._plan import LOOKS
from steepest.compare._result.intervals import bound_after, seeds_to_settle
from steepest.compare._sequential import Analysis

__all__ = ["NextStep", "as_percent", "open_differences", "rounded_up", "with_options"]

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """What to run next, and what it would bring; prints as a sentence.

    Attributes:
        seeds: The number of seeds per alternative that is left, those that were run included.
        settles: Whether that would settle everything, with power 80%, if the differences stay as they are.
        regret: The bound on the regret after these seeds, if the differences stay as they are.
        minutes: About how long it takes, in minutes; nan if unknown.
        command: The command to type, or the arguments to pass from Python; "" if unknown.
        is_new_plan: Whether these are more seeds than were planned: the 95% is then that of another plan.
    """

    seeds: int
    settles: bool
    regret: float
    minutes: float = math.nan
    command: str = ""
    is_new_plan: bool = False

    @classmethod
    def of(cls, differences: Sequence[Sequence[float]], alternatives: int, margin: float, look: int) -> NextStep | None:
        """Return the number of seeds that would settle all differences, or bring the bounds on them down.

        Args:
            differences: Of each undecided alternative: its values minus those of the choice, by seed.
            alternatives: The number of alternatives of the plan.
            margin: The difference that does not matter.
            look: The number of seeds at the last look.
        """
        needed = [seeds_to_settle(each, alternatives, margin=margin) for each in differences]
        enough = [seeds for seeds in needed if seeds is not None]
        settles = len(enough) == len(needed)
        seeds = max(enough, default=0) if settles else max([LOOKS[-1], *enough])
        if seeds <= look:
            return None
        regret = max(0.0, *(bound_after(each, alternatives, seeds) for each in differences))
        return cls(seeds=seeds, settles=settles, regret=regret)

    @property
    def gist(self) -> str:
        """What it would bring, in a sentence."""
        time = "" if math.isnan(self.minutes) else f", in about {about(60 * self.minutes)}"
        if_so = "if the differences stay as they are"
        seeds = f"{self.seeds} seeds{', a new plan,' if self.is_new_plan else ''}"
        if self.settles:
            return f"{seeds} would settle it{time} (power 80%, {if_so})."
        return (
            f"Not even 1,000 seeds would settle it, {if_so}. {seeds} would bring the bound down to about "
            f"{rounded_up(self.regret)}{time}."
        )

    def __str__(self) -> str:
        return f"{self.gist.removesuffix('.')}: {self.command}" if self.command else self.gist


def open_differences(analysis: Analysis[K], scores: Mapping[K, Sequence[float]]) -> dict[K, list[float]]:
    """Return, by alternative that the choice may be worse than, its values minus those of the choice, seed by seed.

    None is left if the regret is within the margin. Alternatives with the same results in every seed are left out, as
    no number of seeds would tell them apart.
    """
    choice = analysis.choice
    if choice is None or analysis.regret <= analysis.margin:
        return {}
    differences = {
        key: [k - a for k, a in zip(scores[key], scores[choice], strict=False)]
        for key in scores
        if key not in (choice, *analysis.eliminated) and analysis.upper[choice, key] > 0
    }
    return {key: each for key, each in differences.items() if any(each)}


def with_options(command: str, options: Mapping[str, str], without: Sequence[str] = ()) -> str:
    """Return a command line in which options have other values, and some are left out.

    >>> with_options("steepest compare --seeds=5 --task digits", {"--max-seeds": "40"}, ["--seeds"])
    'steepest compare --task digits --max-seeds 40'
    """
    kept: list[str] = []
    words = iter(shlex.split(command))
    for word in words:
        name, equals, _ = word.partition("=")
        if name in options or name in without:
            if not equals:
                next(words, None)
        else:
            kept.append(word)
    return shlex.join([*kept, *(part for pair in options.items() for part in pair)])


def rounded_up(value: float) -> str:
    """Return two significant digits, rounded up, as for a bound.

    >>> rounded_up(0.0121), rounded_up(3.0), rounded_up(99.7), rounded_up(1234.0)
    ('0.013', '3', '100', '1300')
    """
    if value <= 0 or not math.isfinite(value):
        return f"{value:.2g}"
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    up = math.ceil(value / unit - 1e-9) * unit
    return f"{up:.0f}" if 99 < up < 1e6 else f"{up:.2g}"


def as_percent(share: float) -> str:
    return f"{rounded_up(100 * share)}%"
