"""Targets that do not depend on the inputs."""

from __future__ import annotations

import numpy as np

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import COHERENT, MOVED, confidence, constant_predictor, median

__all__ = ["data_unrelated_to_target"]


def data_unrelated_to_target(records: Records) -> Diagnosis | None:
    """Name a run that trains, and settles at the loss of a predictor that ignores its input.

    Applied last, when nothing else is wrong; it needs `target=`, and 20 losses. The losses of the last third are like
    that of the best constant predictor (the entropy of the classes; the variance of the targets): see
    `constant_predictor`. Their mean is not below that of the middle third by more than three standard errors (at least
    2%, unless the steps keep one direction, as early in a slow run or a warm-up: then a loss that falls has not
    settled). And the weights have moved by more than 1%: a run that has not moved has not been able to learn.
    """
    loss = records.loss[records.given]
    if len(loss) < 20 or not np.isfinite(loss).all():
        return None
    third = len(loss) // 3
    middle, last = loss[third : 2 * third], loss[2 * third :]
    before, after = float(middle.mean()), float(last.mean())
    error = float(np.hypot(middle.std(ddof=1), last.std(ddof=1))) / third**0.5
    moved = median(records.rows.displacement[records.weights])
    found = constant_predictor(records, last)
    coherent = records.rows.persistence > COHERENT
    least = 3 * error if coherent else max(3 * error, 0.02 * before)
    if found is None or before - after > least or not moved > MOVED:
        return None
    name, value = found
    return Diagnosis(
        "data_unrelated_to_target",
        confidence(0.25 / max(abs(after / value - 1), 0.05)),
        (
            f"the loss has settled at {after:.3g} ({before:.3g} in the third before); predicting the same for every "
            f"example costs {value:.3g} ({name})",
            f"all else is healthy: the median weight has moved by {moved:.2g} of its norm",
        ),
        "Check the pairs: print 5 inputs with their targets; look for a shuffle of one of them, an index that is off "
        "by 1, or inputs that are read from the wrong place.",
    )
