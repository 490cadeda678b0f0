"""The identity of the runs of a comparison, found out once, before anything runs."""

from __future__ import annotations

import torch

from steepest._version import __version__
from steepest.compare._identity import Identity
from steepest.compare._plan import Cell, Plan
from steepest.compare._workers import Bench

__all__ = ["identify"]


def identify(bench: Bench, plan: Plan) -> dict[Cell, Identity]:
    """Return the identity of each cell's runs."""
    return {
        cell: Identity(
            request={
                "task": bench.task.name,
                "optimizer": cell.optimizer,
                "init": cell.init,
                "steps": bench.steps,
                "schedule": bench.schedule,
                "device": torch.device(bench.device).type,
            },
            content={"examples": {"data and model": bench.task.fingerprint()}},
            versions={"torch": torch.__version__, "steepest": __version__},
        )
        for cell in plan.cells
    }
