"""The order in which the rules are applied: causes before their effects."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.activity import constant_input, constant_output, dead_units, saturated_units
from steepest.diagnose._rules.arithmetic import non_finite
from steepest.diagnose._rules.connections import disconnected_parameters
from steepest.diagnose._rules.data import data_unrelated_to_target
from steepest.diagnose._rules.signal import exploding_gradients, vanishing_gradients
from steepest.diagnose._rules.step_size import learning_rate_too_high, learning_rate_too_low
from steepest.diagnose._rules.weights import flat_loss, symmetric_units, zero_gradients

__all__ = ["diagnose"]

CauseRule = Callable[[Records], Diagnosis | None]

_BEFORE_ANY_STEP: tuple[CauseRule, ...] = (
    disconnected_parameters,
    partial(non_finite, at_start=True),
    zero_gradients,
    symmetric_units,
    constant_input,
    partial(dead_units, at_start=True),
    partial(saturated_units, at_start=True),
    exploding_gradients,
    vanishing_gradients,
)
"""From the weights to the gradients."""
_IN_THE_RUN: tuple[CauseRule, ...] = (
    learning_rate_too_high,  # first: a step far too large has many kinds of effects
    non_finite,
    partial(dead_units, at_start=False),
    partial(saturated_units, at_start=False),
    constant_output,
    flat_loss,
)
_OF_A_SOUND_NETWORK: tuple[CauseRule, ...] = (learning_rate_too_low, data_unrelated_to_target)


def diagnose(records: Records, failure: str = "") -> Diagnosis:
    """Return the first cause that a rule finds, or that the run is healthy.

    Args:
        records: The records of the run.
        failure: Why the monitor stopped recording, if it did.
    """
    count = len(records.steps)
    if not count:
        evidence = f"the monitor has failed: {failure}" if failure else "no step was recorded"
        remedy = "Report the failure; the training is as it was." if failure else "Call record(step, loss) each step."
        return Diagnosis("undetermined", 0.0, (evidence,), remedy)
    if records.rows.missing.all():
        evidence = f"no parameter had a gradient at any of {count} records"
        remedy = "Record after backward() and before zero_grad(), or give the optimizer: Monitor(model, optimizer)."
        return Diagnosis("undetermined", 0.0, (evidence,), remedy, tuple(p.name for p in records.parameters))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an all-nan slice is expected here, not a mistake
        for rule in (*_BEFORE_ANY_STEP, *_IN_THE_RUN, *_OF_A_SOUND_NETWORK):
            found = rule(records)
            if found is not None:
                return found
    loss = records.loss[records.given]
    went = f", the loss went from {loss[0]:.3g} to {loss[-1]:.3g}" if len(loss) else ""
    evidence = (f"{count} records, and no rule applies{went}",)
    if failure:
        evidence += (f"the monitor has failed after them: {failure}",)
    return Diagnosis("healthy", count / (count + 10), evidence, "")
