"""Measures that several rules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steepest._series import Array
from steepest.diagnose._records import Records

__all__ = [
    "COHERENT",
    "MOVED",
    "confidence",
    "constant_predictor",
    "hidden",
    "late",
    "listed",
    "median",
    "relative_gradients",
    "start_of",
    "trained_before",
    "typical_updates",
]

_BEYOND = 1e19  # the square of a larger number is infinite in float32
COHERENT = 0.5
"""The cosine between the displacements of a run's two halves above which its steps keep one direction."""
MOVED = 0.01
"""The relative displacement of the median weight above which a run has moved."""


def constant_predictor(records: Records, losses: Array) -> tuple[str, float] | None:
    """Return the baseline (its name, its value) that losses are like: neither better than it nor far worse.

    Their mean is not below it by more than three standard errors (at least 2% and at most 15%), and not more than a
    quarter above, which steps that follow noise cost.
    """
    mean, error = float(losses.mean()), float(losses.std(ddof=1)) / len(losses) ** 0.5 if len(losses) > 1 else 0.0
    for name, value in records.baselines.items():
        if value > 0 and value - _margin(error, value) < mean < 1.25 * value:
            return name, value
    return None


def trained_before(records: Records) -> bool | None:
    """Return whether the run began with a model that had learned something; None where that is not known.

    Where the loss of the best constant predictor is known, by the targets or inferred: whether the first third of the
    losses is below it. Otherwise True if the optimizer had taken steps, or if its rate is below half of its largest
    known one, as at the end of a schedule: then a small loss cannot be distinguished from a small rate.
    """
    loss = records.loss[records.given]
    known = [records.inferred] if records.inferred > 0 else [*records.baselines.values()]
    values = [value for value in known if value > 0]
    if values and len(loss):
        first = loss[: max(1, len(loss) // 3)]
        error = float(first.std(ddof=1)) / len(first) ** 0.5 if len(first) > 1 else 0.0
        return all(float(first.mean()) < value - _margin(error, value) for value in values)
    held = records.lr[np.isfinite(records.lr)]
    peak = max(np.nanmax(held, initial=0.0), np.nan_to_num(records.peak_lr))
    return True if records.resumed or (len(held) > 0 and held[-1] < 0.5 * peak) else None


def _margin(error: float, value: float) -> float:
    """Return how far below a baseline losses may be and equal it: three standard errors, at least 2%, at most 15%."""
    return min(max(3 * error, 0.02 * value), 0.15 * value)


def confidence(margin: float) -> float:
    """Return m / (1 + m) of the factor m by which a number exceeds its threshold: .5 at the threshold."""
    return 1.0 if not np.isfinite(margin) else float(margin / (1 + margin))


def listed(names: tuple[str, ...], most: int = 3) -> str:
    """Return the first names in words."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def median(values: Array) -> float:
    """Return the median of the numbers that are not nan; nan if there are none."""
    held = values[~np.isnan(values)]
    return float(np.median(held)) if len(held) else float("nan")


def late(values: Array) -> float:
    """Return the median over the last tenth of the records."""
    return median(values[-max(1, len(values) // 10) :])


def start_of(values: Array) -> float:
    """Return the first number that is not nan."""
    held = values[~np.isnan(values)]
    return float(held[0]) if len(held) else float("nan")


def hidden(records: Records) -> NDArray[np.bool_]:
    """Return which parameters are weights of other layers than the output's."""
    return records.weights & np.array([p.module not in records.output_layers for p in records.parameters])


def relative_gradients(records: Records, record: int) -> Array:
    """Return ||g_p|| / max_q ||g_q|| of every parameter at a record."""
    gradient = records.rows.gradient[record]
    largest = np.nanmax(gradient, initial=0.0)
    return gradient / largest if largest > 0 else np.zeros_like(gradient)


def typical_updates(records: Records) -> Array:
    """Return the median over the weights of ||update|| / ||weight||, by record.

    A weight that started at zero grows by 1/k of its norm at step k however small the steps are: it counts from 10 on.
    """
    jump = np.where(records.rows.missing, np.nan, records.rows.jump)
    rows = np.fmax(records.updates, jump / max(1.0, _steps_between(records)))[:, records.weights]
    rows[:10, records.start[records.weights] == 0] = np.nan
    return np.minimum(np.array([median(row) for row in rows]), _BEYOND)


def _steps_between(records: Records) -> float:
    return float(np.median(np.diff(records.steps))) if len(records.steps) > 1 else 1.0
