"""The learning rate to try, from one that was too high or too low."""

from __future__ import annotations

import math

import numpy as np

from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import median

__all__ = ["suggestion"]

_RELATIVE_UPDATE = 0.035
_PRODUCT_UPDATE = 0.1


def suggestion(records: Records, *, least: float = 0.0, most: float = math.inf) -> str:
    """Return a sentence with the learning rate to try; "" if that would be below `least`.

    Where it would be above `most`, it is `most`.

    The first step's change of the weights is proportional to the learning rate, for any rate, and is not affected by
    the later effects of a bad rate. So the rate is scaled until the first step has a good size. With the relative
    update r = ||update|| / ||weight||, the median over the weights:

        rate = lr r* / r_0,    r* = .035, and at most .1 / L where steps follow the gradient and nothing normalises.

    There the output is a product of L weights, which changes by about L r; with norm layers or with steps of a fixed
    size (Adam) it does not grow so. Momentum m multiplies a steady step by up to 1 / (1 - m), of which the square root
    was found to count. The two numbers were fitted to 31 sweeps over networks of 1 to 17 weights, 120 steps each.
    """
    updates = records.updates[:, records.weights]
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = updates / np.where(records.lr > 0, records.lr, np.nan)[:, None]
    per_rate, now = next(
        ((median(row), lr) for row, lr in zip(scaled, records.lr, strict=True) if 0 < median(row) < math.inf),
        (math.nan, math.nan),
    )
    follows = _follows_gradient(records)
    if follows and records.momentum < 1:
        per_rate /= math.sqrt(1 - records.momentum)
    goal = _RELATIVE_UPDATE
    if follows and not any(site.kind == "norm" for site in records.sites.values()):
        goal = min(goal, _PRODUCT_UPDATE / max(1, int(records.weights.sum())))
    if per_rate > 0:
        rate = min(goal / per_rate, most)
        if rate < least:
            return ""
        shown = f"{rate * per_rate:.1%}" if rate * per_rate >= 1e-3 else f"{rate * per_rate:.1g} of their norm"
        return (
            f"Try a learning rate of {rate:.1e} in place of {now:.1e}: its first step changes the weights by {shown}."
        )
    first = next((median(row) for row in updates if median(row) > 0), math.nan)
    if first == math.inf:
        return "Multiply the learning rate by 1e-20 or less: its first step exceeds float32's range."
    if first > 0:
        return (
            f"Multiply the learning rate by {goal / first:.1e}: then the first step changes the weights by {goal:.1%}."
        )
    return "Check that optimizer.step() is called and that its learning rate is not 0; then try a 100 times larger one."


def _follows_gradient(records: Records) -> bool:
    """Return whether the first step was more nearly proportional to the gradient than of one size everywhere."""
    which = records.weights
    step = records.rows.update[0, which] * records.start[which]
    entries = np.array([p.size for p in records.parameters], dtype=float)[which] ** 0.5
    held = np.isfinite(step) & (step > 0)
    if held.sum() < 2:
        return False
    gradient = records.rows.gradient[0, which]
    return float(np.std(np.log(step / gradient)[held])) < float(np.std(np.log(step / entries)[held]))
