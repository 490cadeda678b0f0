"""Messages about the finished runs of a storage: which are used again, and why others are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from steepest.compare._design import FIRST_SEED, Cell, Design
from steepest.compare._identity.selection import Past, Selection

__all__ = ["reuse_notices"]

_MOST_DIFFERENCES = 4


def reuse_notices(design: Design, past: Iterable[Past], selection: Selection) -> list[str]:
    """Return the messages for the user about the finished runs of a storage.

    Args:
        design: The design of the comparison.
        past: Finished runs with the same names, whatever the code and the data were when they ran.
        selection: The selection of the runs that the comparison uses.
    """
    past = [each for each in past if each.run.cell in design.cells and _has_its_seed(design, each)]
    own = [each for each in past if selection.includes(each.key)]
    known = {each.run for each in own}
    accepted = [each for each in past if selection.accepts(each.key) and each.run not in known]
    left = [each for each in past if selection.is_left(each.key) and each.run.cell not in {run.cell for run in known}]
    lines = [f"{_finished(own)} {_are(own)} used again."] if own else []
    for differences, runs in _by_difference(accepted, selection):
        lines.append(f"{_finished(runs)} {_are(runs)} used again, edits being accepted: {differences}.")
    lines += _versions([*own, *accepted], selection)
    for differences, runs in _by_difference(left, selection):
        cells = {each.run.cell for each in runs}
        of = "" if cells == set(design.cells) else f" of {', '.join(_names(design, cells))}"
        lines.append(
            f"{differences}: new runs are made. {_finished(runs)}{of} {_are(runs)} left alone; "
            "--accept-edits (accept_edits=True) uses them."
        )
    return lines


def _has_its_seed(design: Design, past: Past) -> bool:
    seed = past.run.seed
    return seed in design.final_seeds if seed >= FIRST_SEED else seed < design.budget.tuning_seeds


def _by_difference(runs: Iterable[Past], selection: Selection) -> list[tuple[str, list[Past]]]:
    """Return runs grouped by their differences from this comparison, in words."""
    groups: dict[str, list[Past]] = defaultdict(list)
    for each in runs:
        differences = selection.differences(each.key)
        more = len(differences) - _MOST_DIFFERENCES
        shown = [*differences[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
        groups[", ".join(shown)].append(each)
    return list(groups.items())


def _versions(runs: Sequence[Past], selection: Selection) -> list[str]:
    """Return a line if some runs were made with other versions of torch or steepest."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for each in runs:
        for there_and_here in selection.other_versions(each.key):
            found[there_and_here] += 1
    return [
        f"{n} of the runs used again {'was' if n == 1 else 'were'} made with {there}; this is {here}."
        for (there, here), n in found.items()
    ]


def _finished(runs: Sequence[Past]) -> str:
    """Return the number of runs and when they ended, in words.

    >>> from datetime import datetime
    >>> from steepest.compare import Run
    >>> _finished([Past(Run(Cell("sgd", "he"), -8, 0), "", datetime(2026, 11, 27, 21, 14))])
    '1 finished run of 2026-11-27 21:14'
    """
    ended = sorted(each.ended for each in runs)
    first, last = f"{ended[0]:%Y-%m-%d %H:%M}", f"{ended[-1]:%Y-%m-%d %H:%M}"
    when = last if first[:10] == last[:10] else f"{first} to {last}"
    return f"{len(runs)} finished run{'' if len(runs) == 1 else 's'} of {when}"


def _are(runs: Sequence[Past]) -> str:
    return "is" if len(runs) == 1 else "are"


def _names(design: Design, cells: Iterable[Cell]) -> list[str]:
    one_init = len({cell.init for cell in design.cells}) == 1
    return sorted(cell.optimizer if one_init else str(cell) for cell in cells)
