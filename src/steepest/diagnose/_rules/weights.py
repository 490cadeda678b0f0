"""Weights that cannot break their symmetry."""

from __future__ import annotations

import math

import numpy as np

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import confidence, late, listed, trained_before

__all__ = ["flat_loss", "symmetric_units", "zero_gradients"]

_COPIES = 0.5


def zero_gradients(records: Records) -> Diagnosis | None:
    """Name weights that are all zero: then the gradient of every one of them is exactly zero.

    With W = 0 everywhere the hidden activations are 0, so dL/dW_l = delta_l a_{l-1}' = 0, and delta_l = W' delta = 0
    below the output: only the output's bias has a gradient. Facts: every weight is 0 before the first step, and at
    the first record all gradients but at most one are exactly 0. A part of a network can be caught as well: two or
    more weights that are 0 from first to last with a gradient that is 0 at every record (at least 3), each the reason
    for the other. A branch of which only the last weight starts at zero gets a gradient and is healthy.
    """
    weights, gradient = records.weights, records.rows.gradient
    if not weights.any() or not len(gradient):
        return None
    zero = (records.start == 0) & weights
    pushed = np.nan_to_num(gradient[0]) != 0
    whole = bool(zero[weights].all()) and int(pushed.sum()) <= 1 and not pushed[weights].any()
    stuck = zero & (records.rows.weight == 0).all(axis=0) & (gradient == 0).all(axis=0)
    if not whole and (stuck.sum() < 2 or len(records.steps) < 3):
        return None
    concerned = weights if whole else stuck
    names = records.names(concerned)
    moving = records.names(np.nan_to_num(gradient[0]) != 0)
    fan = max(1, round(math.sqrt(records.parameters[int(np.argmax(concerned))].size)))
    return Diagnosis(
        "zero_gradients",
        1.0,
        (
            f"{listed(names)}: all entries are 0 before the first step ({len(names)} weights)",
            f"{int((gradient[0] == 0).sum())} of {gradient.shape[1]} gradients are exactly 0 at step {records.steps[0]}"
            + (f"; only {listed(moving)} has one" if moving else ""),
        ),
        f"Initialise the weights at random, for example N(0, 2/fan_in), about {math.sqrt(2 / fan):.2g}: "
        'steepest.init.initialize(model, "he").',
        names,
    )


def symmetric_units(records: Records) -> Diagnosis | None:
    """Name layers in which at least half of the units are copies of one another and stay so.

    Units with equal incoming weights and biases compute the same; if their outgoing weights are equal too, they get
    the same gradient and stay equal, so a layer of n copies is one unit, whatever its gradient norm. Rows of the weight
    are counted (see `share_of_copies`), before the first step and at the last record of copies: copies with different
    outgoing weights diverge at the first step and are not counted. The threshold is .5, from the definition.
    """
    found: dict[str, tuple[float, float]] = {}
    for name, looks in records.copies.items():
        if looks and looks[0][0] <= 0 and looks[-1][0] >= 0 and min(looks[0][1], looks[-1][1]) >= _COPIES:
            found[name] = looks[0][1], looks[-1][1]
    trainable = {p.name for p in records.parameters if p.trainable and not p.frozen}
    found = {name: shares for name, shares in found.items() if name in trainable}
    if not found:
        return None
    names = tuple(found)
    gradients = {p.name: records.rows.gradient[:, i] for i, p in enumerate(records.parameters)}
    share = max(last for _, last in found.values())
    return Diagnosis(
        "symmetric_units",
        confidence(share / _COPIES + 1),
        tuple(
            f"{name}: {last:.0%} of the units equal another one at step {records.steps[-1]} ({first:.0%} before the "
            f"first), with a gradient norm of {np.nanmedian(gradients[name]):.2g}"
            for name, (first, last) in list(found.items())[:3]
        ),
        "Draw the weights of each unit independently, for example "
        'steepest.init.initialize(model, "he"); a layer of copies is one unit.',
        names,
    )


def flat_loss(records: Records) -> Diagnosis | None:
    """Name gradients that are all exactly 0 although the weights are not.

    A fact: all gradients are 0 at every record, of at least 3: the loss does not change with the output. It is no fault
    if the model has learned everything, or if the loss is 0, as a hinge loss may be.
    """
    gradient, missing = records.rows.gradient, records.rows.missing
    loss = records.loss[records.given]
    if len(gradient) < 3 or not ((gradient == 0) | missing).all():
        return None
    if trained_before(records) or (len(loss) and late(loss) == 0):
        return None
    went = f", the loss is {loss[-1]:.3g}" if len(loss) else ""
    return Diagnosis(
        "zero_gradients",
        1.0,
        (f"all gradients are exactly 0 at each of {len(gradient)} records{went}",),
        "Look at what lies between the last layer and the loss: a softmax over a single column, a clamp, round(), "
        "sign(), argmax() or a comparison has derivative 0; or the loss is multiplied by 0.",
        records.names(np.asarray(~missing.all(axis=0))),
    )
