"""The ranking as text and as HTML, and runs as a table of pandas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from steepest._importing import require
from steepest.compare._design import Cell, Run
from steepest.compare._measure import Measure
from steepest.compare._result.against import against
from steepest.compare._result.standing import Standing
from steepest.compare._result.verdict import Verdict
from steepest.train import History

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "as_frame", "ranking_table"]


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: The names of the columns.
        rows: The rows.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        rows = [self.head, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.head))]
        return "\n".join("  ".join(f"{c:<{n}}" for c, n in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        left = ' style="text-align: left"'
        head = "".join(f"<th{left}>{escape(cell)}</th>" for cell in self.head)
        rows = ("".join(f"<td{left}>{escape(cell)}</td>" for cell in row) for row in self.rows)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def ranking_table(
    standings: Iterable[Standing],
    verdict: Verdict[Cell],
    measure: Measure,
    label: Callable[[Cell], str],
    metrics: Sequence[str],
) -> Table:
    """Return the ranking, with the differences from the choice where their intervals are known.

    Args:
        standings: The rows, in their order.
        verdict: The verdict on them.
        measure: What decides.
        label: The name of an alternative.
        metrics: The names of the metrics.
    """
    others = [name for name in ["loss", *metrics] if name != measure.name]
    choice = verdict.choice
    found = [] if choice is None else against(choice, verdict.differences, measure)
    known = {each.cell: each for each in found if math.isfinite(each.low) and math.isfinite(each.high)}
    head = ["", measure.title]
    if choice is not None and known:
        head += [f"difference from {label(choice)}", "interval"]
    head += ["seeds", "learning rate", *("validation loss" if name == "loss" else name for name in others), "per step"]
    rows: list[list[str]] = []
    for s in standings:
        diverged = f" ({s.diverged} diverged)" if s.diverged else ""
        row = [label(s.cell), f"{s.value.estimate:.4g}{diverged}"]
        if known:
            each = known.get(s.cell)
            row += ["", ""] if each is None else [f"{each.estimate:+.3g}", f"{each.low:+.3g} to {each.high:+.3g}"]
        row += [str(s.seeds), f"{s.lr:.3g}"]
        row += [f"{s.loss if name == 'loss' else s.metrics[name]:.4g}" for name in others]
        rows.append([*row, f"{1e3 * s.seconds_per_step:.3g} ms"])
    return Table(head, rows)


def as_frame(runs: Iterable[tuple[Run, History, float, float]]) -> pd.DataFrame:
    """Return one row per run as a `DataFrame`, given each with its history and steps and seconds to the target.

    Raises:
        MissingExtra: If pandas is not installed.
    """
    require("Comparison.to_frame", "pandas", extra="pandas")
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "phase": run.phase,
                "optimizer": run.cell.optimizer,
                "init": run.cell.init,
                "learning_rate": run.lr,
                "seed": run.seed,
                "loss": history.valid_loss[-1],
                "best_loss": min(history.valid_loss),
                **{name: values[-1] for name, values in history.valid_metrics.items()},
                "steps_to_target": steps,
                "seconds_to_target": seconds,
                "diverged": history.diverged,
                "steps": history.steps[-1],
                "seconds": history.duration,
                "seconds_per_step": history.seconds_per_step,
                "state_bytes": history.state_bytes,
            }
            for run, history, steps, seconds in runs
        ]
    )
