"""Gradients that vanish or explode on their way to the input."""

from __future__ import annotations

import numpy as np

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import confidence, hidden, median, relative_gradients

__all__ = ["exploding_gradients", "vanishing_gradients"]

_AMPLIFICATION = 500.0
_TYPICAL, _SMALLEST = 1e-3, 1e-4


def exploding_gradients(records: Records) -> Diagnosis | None:
    """Name gradients that are huge before any step was taken.

    The scale of gradients depends on the loss's unit, so the gradient of the parameters is compared with that of the
    output: A = max_p ||dL/dp|| / r, r the root mean square over examples of ||dL_i/d output||. For an output layer
    ||dL/dW|| <= r ||a||, and with ||a|| of 32 to 1024 units of size 1, A is 6 to 32 at most; healthy runs have .1 to
    30. Eight layers that each amplify by 2.2 have 500, the threshold.
    """
    gradient, output = records.rows.gradient, records.output_gradient
    if not len(gradient) or not np.isfinite(gradient[0]).any():
        return None
    reference = output[0] if len(output) and np.isfinite(output[0]) else _output_bias(records)
    largest = float(np.nanmax(gradient[0]))
    if not reference > 0 or largest / reference < _AMPLIFICATION:
        return None
    amplification = largest / reference
    worst = int(np.nanargmax(gradient[0]))
    sites = [name for name, site in records.sites.items() if site.kind in ("data", "weight", "output")]
    spreads = [float(records.statistic(name, "spread")[0]) for name in sites]
    growth = [f"{name} {spread:.2g}" for name, spread in zip(sites, spreads, strict=True) if np.isfinite(spread)]
    inputs = next((s for n, s in zip(sites, spreads, strict=True) if records.sites[n].kind == "data"), 1.0)
    layers = max(1, int(records.weights.sum()))
    factor = amplification ** (1 / layers)
    remedy = (
        f"Normalise the inputs: divide them by {inputs:.2g}."
        if inputs > 30
        else f"Initialise the weights about {max(factor, 1.1):.2g} times smaller, for example "
        'steepest.init.initialize(model, "he"), or put norm layers between them.'
    )
    evidence = [
        f"{records.parameters[worst].name}: gradient norm {largest:.2g} at step {records.steps[0]}, before any step, "
        f"{amplification:.2g} times the output's own ({reference:.2g})"
    ]
    if growth:
        evidence.append(f"standard deviations in the forward pass: {', '.join([*growth[:2], *growth[-2:]])}")
    return Diagnosis(
        "exploding_gradients",
        confidence(amplification / _AMPLIFICATION),
        tuple(evidence),
        remedy,
        records.names(gradient[0] > 0.1 * largest),
    )


def _output_bias(records: Records) -> float:
    """Return the gradient norm of the output layer's bias, a lower bound on that of the output."""
    for i, p in enumerate(records.parameters):
        if p.module in records.output_layers and not p.is_weight:
            return float(records.rows.gradient[0, i])
    return float("nan")


def vanishing_gradients(records: Records) -> Diagnosis | None:
    """Name gradients that shrink by orders of magnitude between the output and the input.

    Of the hidden layers' weights the median gradient norm is below 1e-3 and the smallest below 1e-4 of the largest
    in the network, at the first record and at the last (there 1e-2: a layer that learns a little still does not train).
    In healthy networks, of up to 20 layers, the smallest is above 1e-2. Gradients that are all exactly 0 are not this
    cause: nothing shrinks, the graph is cut.
    """
    chosen = hidden(records)
    if not len(records.steps) or not chosen.any():
        return None
    first = relative_gradients(records, 0)[chosen]
    tail = records.rows.gradient[-max(1, len(records.steps) // 10) :]
    tail = tail[np.isfinite(tail).any(axis=1)]
    gradients = np.nanmedian(tail, axis=0) if len(tail) else records.rows.gradient[0]
    last = (gradients / max(float(np.nanmax(gradients, initial=0.0)), 1e-45))[chosen]
    if not (np.nanmax(first, initial=0.0) > 0 and np.nanmin(first, initial=1.0) < _SMALLEST):
        return None
    if not (median(first) < _TYPICAL and median(last) < 10 * _TYPICAL):
        return None
    names = records.names(chosen)
    order = np.argsort(first)
    worst = int(order[0])
    layers = max(2, int(chosen.sum()))
    shrink = max(float(first[worst]), 1e-30) ** (1 / layers)
    return Diagnosis(
        "vanishing_gradients",
        confidence(_TYPICAL / max(median(first), 1e-12)),
        (
            f"{names[worst]}: its gradient norm is {first[worst]:.1g} of the largest at step {records.steps[0]} and "
            f"{last[worst]:.1g} at step {records.steps[-1]}",
            f"the median over {len(names)} hidden weights is {median(first):.1g} of the largest",
            f"each layer passes on about {shrink:.2g} of its gradient",
        ),
        f'Initialise the weights about {min(1 / shrink, 1e3):.2g} times larger (steepest.init.initialize(model, "he") '
        "finds the scale), or use ReLU with skip connections or norm layers between the layers.",
        tuple(names[i] for i in order if first[i] < _TYPICAL),
    )
