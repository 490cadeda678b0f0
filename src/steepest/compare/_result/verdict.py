"""The verdict of a comparison, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar

from steepest.compare._measure import Measure
from steepest.compare._result.next_step import NextStep, as_percent, rounded_up
from steepest.compare._sequential import Analysis, Difference

__all__ = ["Verdict", "judge", "no_verdict", "places"]

K = TypeVar("K")

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Verdict(Generic[K]):
    """The outcome of a comparison; prints as its sentences.

    Attributes:
        headline: The choice and what it may cost, in one sentence.
        details: Further sentences: what is beaten, the same or undecided, and what to do next.
        choice: The alternative to take; None if nothing can be said.
        regret: With 95% confidence, the choice is at most this much worse than the best of the alternatives, in units
            of the measure; infinite if that is unknown.
        beaten: The alternatives that the choice beats.
        same: Those whose difference from the choice is within the margin.
        eliminated: Those that the choice does not beat, but that were dropped: another is known to be as good.
        undecided: All others.
        differences: All pairs; smaller values are better, so those of a measure of which higher values are better have
            the opposite sign.
        next_step: What would settle more; None if nothing is left to settle.
    """

    headline: str
    details: tuple[str, ...]
    choice: K | None = None
    regret: float = math.inf
    beaten: tuple[K, ...] = ()
    same: tuple[K, ...] = ()
    eliminated: tuple[K, ...] = ()
    undecided: tuple[K, ...] = ()
    differences: tuple[Difference[K], ...] = ()
    next_step: NextStep | None = None

    def __str__(self) -> str:
        return " ".join((self.headline, *self.details))

    def __repr__(self) -> str:
        return f"<Verdict: {self.headline}>"

    def _repr_html_(self) -> str:
        return f"<p><strong>{escape(self.headline)}</strong></p>" + "".join(f"<p>{escape(d)}</p>" for d in self.details)


def judge(
    analysis: Analysis[K],
    measure: Measure,
    label: Callable[[K], str],
    *,
    next_step: NextStep | None = None,
    margin: str = "",
    same_start: Collection[K] = (),
    remarks: Sequence[str] = (),
) -> Verdict[K]:
    """Say what the looks at the results allow.

    Args:
        analysis: The looks.
        measure: What decides.
        label: The name of an alternative in reports.
        next_step: What would settle more.
        margin: The margin as the user gave it.
        same_start: The alternatives whose values before training do not depend on the seed.
        remarks: Sentences for the end.
    """
    choice, differences = analysis.choice, analysis.differences
    if choice is None:
        return no_verdict("No verdict yet: no look at the results is complete.", "Start again to resume.")
    value = measure.natural(analysis.means[choice])
    if len(analysis.means) == 1:
        says = f"Only {label(choice)} was run, so there is nothing to compare it with."
        return Verdict(says, (f"Its mean {measure.title} is {value:.4g}.",), choice, math.inf)
    against = {d.b if d.a == choice else d.a: d for d in differences if choice in (d.a, d.b)}
    if fixed := [key for key, difference in against.items() if difference.seedless]:
        return _without_seeds([choice, *fixed], analysis, measure, label, same_start)
    beaten = [key for key, difference in against.items() if difference.better == choice]
    same = [key for key in analysis.same if key not in beaten]
    eliminated = [key for key in analysis.eliminated if key not in beaten]
    equal = [key for key, difference in against.items() if difference.estimate == 0.0 and key not in same]
    undecided = [key for key in against if key not in (*beaten, *same, *eliminated, *equal)]
    details = [f"Its mean {measure.title} is {value:.4g} over {analysis.seeds[choice]} seeds."]
    if beaten:
        details.append(f"It beats {_and([label(key) for key in beaten])}.")
    if same:
        is_same = f"{'is' if len(same) == 1 else 'are'} the same as {label(choice)}"
        details.append(f"{_and([label(key) for key in same])} {is_same} within {_amount(margin, analysis.margin)}.")
    elif margin and analysis.margin == 0:
        details.append(f"A margin of {margin} means nothing for a mean so near to 0: give it in units of the measure.")
    if equal:
        details.append(f"{_and([label(key) for key in equal])} gave the same results as {label(choice)} in every seed.")
    if eliminated:
        after = _and([str(n) for n in sorted({analysis.eliminated[key] for key in eliminated})])
        dropped = f"{_and([label(key) for key in eliminated])} {'was' if len(eliminated) == 1 else 'were'} dropped"
        details.append(f"{dropped} after {after} seeds: no better than the best of the others.")
    if turned := [key for key, difference in against.items() if difference.better == key]:
        before = f"beat {label(choice)} at an earlier look, before the means turned"
        details.append(f"{_and([label(key) for key in turned])} {before}.")
    if undecided:
        details.append(f"Against {_and([label(key) for key in undecided])} it is undecided.")
    if next_step is not None:
        details.append(str(next_step))
    headline = _headline(analysis, measure, label)
    if equal and not undecided and math.isinf(analysis.regret):
        headline = f"Take {label(choice)} or another: no result tells the rest from it."
    return Verdict(
        headline,
        (*details, *remarks),
        choice,
        analysis.regret,
        tuple(beaten),
        tuple(same),
        tuple(eliminated),
        tuple(undecided),
        differences,
        next_step,
    )


def no_verdict(headline: str, *details: str, differences: tuple[Difference[Any], ...] = ()) -> Verdict[Any]:
    """Return the verdict that nothing can be said, and why."""
    return Verdict(headline, details, differences=differences)


def _headline(analysis: Analysis[K], measure: Measure, label: Callable[[K], str]) -> str:
    choice, regret = analysis.choice, analysis.regret
    assert choice is not None
    count = len(analysis.means)
    if math.isinf(regret):
        reason = f"{analysis.seeds[choice]} seeds have too few distinct results to bound how much worse it may be"
        return f"Take {label(choice)} for now: no other has a better mean, but {reason} than the best."
    if regret == 0:
        others = "the other is not better" if count == 2 else f"no other of these {_count(count)} is better"
        return f"Take {label(choice)}: with 95% confidence {others}."
    best = "the better of the two" if count == 2 else f"the best of these {_count(count)}"
    mean = abs(analysis.means[choice])
    share = f" ({as_percent(regret / mean)})" if mean > regret else ""
    if measure.name == "loss":
        return f"Take {label(choice)}: with 95% confidence it is at most {rounded_up(regret)}{share} worse than {best}."
    side = "below" if measure.higher_is_better else "above"
    of = f"its {measure.title} is at most {rounded_up(regret)}{share} {side} that of {best}"
    return f"Take {label(choice)}: with 95% confidence {of}."


def _without_seeds(
    keys: list[K], analysis: Analysis[K], measure: Measure, label: Callable[[K], str], same_start: Collection[K]
) -> Verdict[K]:
    """Return the verdict that values do not vary with the seed, so that any difference would look certain."""
    names = _and([label(key) for key in keys])
    if all(key in same_start for key in keys):
        headline = f"No verdict: the runs of {names} do not depend on the seed, so any difference would look certain."
        detail = (
            "Their values agree to a millionth across seeds, at the start and at the end. Draw the initial weights, "
            "the order of the data or the noise from torch's global generator, which the trial seeds; set no seed in "
            "the task."
        )
    else:
        headline = f"No verdict: {names} each end at one value whatever the seed, so any difference would look certain."
        ends = ", ".join(f"{measure.natural(analysis.means[key]):.6g} ({label(key)})" for key in keys)
        detail = f"Values that agree to a millionth across seeds give no scale for a difference. They are {ends}."
    return no_verdict(headline, detail, differences=analysis.differences)


def _amount(margin: str, amount: float) -> str:
    return f"{margin} ({rounded_up(amount)})" if margin.endswith("%") else rounded_up(amount)


def _count(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def places(values: Mapping[K, float]) -> dict[K, int]:
    """Return the place of each value, the smallest first, counted from 1."""
    return {key: place for place, key in enumerate(sorted(values, key=lambda key: values[key]), start=1)}
