"""Steps that are too large or too small."""

from __future__ import annotations

import math

import numpy as np

from steepest._series import Array
from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.learning_rate import suggestion
from steepest.diagnose._rules.measures import (
    COHERENT,
    MOVED,
    confidence,
    constant_predictor,
    late,
    median,
    start_of,
    trained_before,
    typical_updates,
)

__all__ = ["learning_rate_too_high", "learning_rate_too_low"]

_HUGE = 0.5
_LARGE = 0.1


def learning_rate_too_high(records: Records) -> Diagnosis | None:
    """Name steps that are as large as the weights, after which the run is worse.

    The median over the weights of ||update|| / ||weight|| reached .5 in a step: a step of that size leaves little of
    what the weights were, and weights that did not start at zero stay below .2 in healthy runs. And it was harmful: the
    loss or a weight is not finite; the loss has not fallen by a quarter of what it was, or of what a constant predictor
    has; or the output no longer depends on the example, for which .1 is enough, since nothing else kills a network that
    was alive. What follows from such a step (NaN, dead units, a constant output) is its effect.
    """
    updates = typical_updates(records)
    update = float(np.nan_to_num(updates).max(initial=0.0))
    if not update >= _LARGE:
        return None
    # Steps after a harmful one are not proportional to the rate.
    at, first_large = int(np.nanargmax(updates)), int(np.argmax(updates >= min(update, _HUGE)))
    loss = records.loss[records.given]
    finite = bool(np.isfinite(loss).all() and records.finite_weights.all())
    first, last = start_of(loss), late(loss)
    constant = [value for value in records.baselines.values() if value > 0]
    bound = min([first, *(value for value in constant if value <= first)]) if constant else first
    variation = records.statistic("output", "variation") if "output" in records.sites else np.array([1.0])
    dead = start_of(variation) > 1e-3 and not late(np.nan_to_num(variation)) > 1e-3
    learned = len(constant) > 0 and last < 0.5 * min(constant)  # the loss of a trained model cannot fall
    worse = len(loss) == 0 or not finite or (last > 0.75 * bound and not learned)
    if not (dead or (worse and update >= _HUGE)):
        return None
    harm = (
        "then the loss or a weight is not finite"
        if not finite
        else "the output has become the same for every example"
        if dead
        else f"the loss went from {first:.3g} to {last:.3g}"
    )
    return Diagnosis(
        "learning_rate_too_high",
        confidence(update / _LARGE),
        (f"step {records.steps[at]}: the median weight changed by {update:.2g} times its own norm", harm),
        suggestion(records, most=_lr_at(records, first_large) * 0.035 / float(updates[first_large])),
        records.names(records.weights),
    )


def learning_rate_too_low(records: Records) -> Diagnosis | None:
    """Name steps that keep one direction and hardly move the weights.

    After T >= 10 records the median weight has moved by less than 1% of its norm, the loss has kept more than half of
    its value, and there is something left to learn: the second half of the run went on in the direction of the first
    half (cosine of the two displacements above .5; a run at a minimum walks at random, 0), or the loss is still that of
    a constant predictor, or nothing moves although every record has a gradient. Only weights are judged that had a
    gradient at half of the records or more.

    A trained model shows all of that at any rate, as at the end of a schedule, and its small gradients would suggest a
    rate of thousands: see `trained_before`. A rate that is still rising (warm-up) is not judged, nor one whose first
    step is of about the right size.
    """
    loss = records.loss[records.given]
    if len(records.steps) < 10 or not records.finite_weights.all():
        return None
    often = records.weights & (records.rows.missing.mean(axis=0) <= 0.5)
    moved = median(records.rows.displacement[often])
    persistence = records.rows.persistence
    if not moved < MOVED or _rising(records.lr) or (len(loss) and not late(loss) > 0.5 * start_of(loss)):
        return None
    untrained = len(loss) > 0 and constant_predictor(records, loss[-len(loss) // 3 :]) is not None
    standing = not (np.nan_to_num(records.rows.update) > 0).any() and _pushed(records)
    if trained_before(records) or not (persistence > COHERENT or untrained or standing):
        return None
    remedy = suggestion(records, least=1.5 * float(np.nanmax(records.lr, initial=0.0)), most=_supported(records))
    if not remedy:
        return None
    update = median(records.updates[:, often].ravel())
    return Diagnosis(
        "learning_rate_too_low",
        confidence(MOVED / max(moved, 1e-12)),
        (
            f"after step {records.steps[-1]} the median weight has moved by {moved:.2g} of its norm, "
            f"{update:.1g} per step",
            "no weight has changed at any record, although there are gradients"
            if standing
            else f"its steps keep one direction: cosine {persistence:.2f} between the two halves of the run",
            *([f"the loss went from {start_of(loss):.3g} to {late(loss):.3g}"] if len(loss) else []),
        ),
        remedy,
        records.names(records.weights),
    )


def _supported(records: Records) -> float:
    """Return the largest rate that the run justifies.

    A schedule's own largest rate, if it is above the present one. Else a thousand times the largest that was seen,
    unless the targets say that the model is untrained: then its gradients are those at initialisation, and bound the
    rate.
    """
    seen = float(np.nanmax(records.lr, initial=0.0))
    if records.peak_lr > seen:
        return records.peak_lr
    return math.inf if trained_before(records) is False else 1e3 * seen


def _pushed(records: Records) -> bool:
    """Return whether every record has a finite gradient that is not 0."""
    gradient = np.nan_to_num(records.rows.gradient, posinf=0.0)
    return bool((gradient > 0).any(axis=1).all())


def _lr_at(records: Records, record: int) -> float:
    rate = float(records.lr[record])
    return rate if rate > 0 else math.inf


def _rising(lr: Array) -> bool:
    held = lr[np.isfinite(lr)]
    return len(held) > 1 and held[-1] > 1.01 * held[len(held) // 2]
