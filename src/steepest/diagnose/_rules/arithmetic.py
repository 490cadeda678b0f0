"""NaN and infinity that no step has made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import listed

__all__ = ["non_finite"]

_LASTING = 20


def non_finite(records: Records, *, at_start: bool = False) -> Diagnosis | None:
    """Name where NaN or infinity arose first.

    A fact: the loss, a weight or a gradient is not finite. A step whose gradient alone was not finite
    and that left all weights finite is no fault: a gradient scaler skips such steps. With at_start only the first
    record is checked: no step has caused what is not finite there.
    """
    gradient, weight = records.rows.gradient, records.rows.weight
    count = min(1, len(records.steps)) if at_start else len(records.steps)
    bad_loss = ~np.isfinite(records.loss) & records.given
    infinite = ~np.isfinite(gradient) & ~records.rows.missing
    # The norm of an exploding gradient can exceed float32's range although no entry does: not this cause.
    beyond = np.isinf(gradient) & np.isfinite(records.loss)[:, None] & np.isfinite(records.output_gradient)[:, None]
    infinite &= ~beyond
    anywhere: NDArray[np.bool_] = np.asarray(infinite.any(axis=1))
    bad_weight = np.zeros(len(weight), dtype=bool) if at_start else ~records.finite_weights
    moved = (np.nan_to_num(records.rows.update) > 0).any(axis=1)
    taken = records.stepped & (moved | bad_weight)
    bad_gradient = anywhere & ((taken & _stays(anywhere)) | bad_loss | bad_weight | _lasts(anywhere))
    bad = (bad_loss | bad_gradient | bad_weight)[:count]
    if not bad.any():
        return None
    t = int(np.argmax(bad))
    where = records.first_nonfinite
    names = records.names(infinite[t] | ~(np.isfinite(weight[t]) | records.rows.absent[t]))
    step = records.steps[t]
    if where is None or where == "loss":
        seen = "every layer's output was finite" if where == "loss" else "the forward pass was not seen"
        first = f"the loss or its gradient: {seen} at step {step}"
        remedy = "Look in the loss for log(0), 0/0, sqrt at 0 or exp of large numbers; clamp with eps=1e-6 before it."
    elif records.sites[where].kind == "data":
        first = f"{where}: the data are not finite"
        remedy = "Look for NaN or infinity in the inputs (torch.isfinite(x).all()) and drop or fill these examples."
    else:
        first = f"{where}: the first tensor of the forward pass that is not finite, at step {step}"
        remedy = f"Look at what {where} does: a division by 0 (add eps=1e-6), a log, an exp, or float16 beyond 65504."
    return Diagnosis(
        "non_finite",
        1.0,
        (first, f"loss {records.loss[t]:.3g} at step {step}; not finite at {listed(names) or 'no parameter'}"),
        remedy,
        names,
    )


def _stays(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where a fault is at two records in a row, or at the last one of all."""
    return bad & (np.append(bad[1:], False) | (len(bad) == 1))


def _lasts(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether a fault is at 20 records in a row, up to the last: more than a gradient scaler needs."""
    return np.full(len(bad), bool(len(bad) >= _LASTING and bad[-_LASTING:].all()))
