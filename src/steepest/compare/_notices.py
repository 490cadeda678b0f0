"""Notices about the runs for the user."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from steepest.compare._design import Run
from steepest.init import Default, Initializer
from steepest.tasks import Task
from steepest.train import History

__all__ = ["run_notices", "untouched_notices"]

_SHOWN = 4


def untouched_notices(task: Task, inits: Mapping[str, Initializer]) -> list[str]:
    """Return a line with the parameters that the inits do not change, if an init is requested that fills weights."""
    filling = [name for name, scheme in inits.items() if not isinstance(scheme, Default)]
    left = [name for name, parameter in task.build(seed=0).named_parameters() if not parameter.requires_grad]
    if not (filling and left):
        return []
    names, shown = ", ".join(filling), ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
    return [f"{names}: {len(left)} parameters that need no gradient stay as the model made them ({shown})."]


def run_notices(histories: Mapping[Run, History], known: Collection[str]) -> list[str]:
    """Return the first remark of the runs of each optimizer, except of the known ones."""
    found: dict[str, str] = {}
    for run in sorted(histories):
        if run.cell.optimizer not in known:
            for remark in histories[run].remarks:
                found.setdefault(run.cell.optimizer, f"{run.cell.optimizer}: {remark}")
    return list(found.values())
