"""Activations that carry no signal."""

from __future__ import annotations

import numpy as np

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import confidence, late, start_of

__all__ = ["constant_input", "constant_output", "dead_units", "saturated_units"]

_DEAD = 0.9
_SATURATED = 0.9
_ALIVE = 0.02
_VARIATION = 1e-5


def dead_units(records: Records, *, at_start: bool) -> Diagnosis | None:
    """Name layers of which at least 90% of the units are 0 for every example seen.

    A unit that is 0 for every example has no gradient, and neither has what lies before a dead layer. Healthy ReLU
    networks have such units too: ten layers of 50 with He's weights correlate the examples so strongly that up to 60%
    of the last layer's units are on for none of 32; hence 90%. If some inputs of the activation are positive (2% of the
    entries), something else has made the zeros, for instance a mask, and it is not this cause.
    """
    for name, site in records.sites.items():
        if site.kind not in ("activation", "input"):
            continue
        dead = records.statistic(name, "dead")
        share = start_of(dead) if at_start else late(dead)
        if at_start and late(dead) < _DEAD:  # an unusual first batch, or units that have come alive
            continue
        before = records.statistic(site.before, "positive") if site.before in records.sites else np.array([np.nan])
        alive = start_of(before) if at_start else late(before[~np.isnan(before)])
        if not share >= _DEAD or alive > _ALIVE:
            continue
        names = tuple(p.name for p in records.parameters if p.module == site.producer)
        mean = records.statistic(site.producer, "mean") if site.producer in records.sites else np.array([np.nan])
        return Diagnosis(
            "dead_units",
            confidence((1 - _DEAD + 1e-2) / (1 - share + 1e-2)),
            (
                f"{name}: {share:.0%} of the units are 0 for every example seen, from step "
                f"{records.steps[0] if at_start else records.steps[-1]} on",
                f"{site.producer}: its output has mean {start_of(mean):.2g} at the first record and {late(mean):.2g} "
                "at the last",
            ),
            f"Set the bias of {site.producer} (and of a norm layer after it) to 0 and draw its weights anew with mean "
            "0; if units die again during training, use LeakyReLU(0.01).",
            names,
        )
    return None


def saturated_units(records: Records, *, at_start: bool) -> Diagnosis | None:
    """Name layers of a bounded activation with at least 90% of the entries within 1% of its ends.

    There tanh' <= 1 - .99^2 = .02 and sigmoid' <= .0099, so a hundredth of the gradient is passed back. Xavier's
    weights give less than 1%; weights so large that the inputs of tanh are N(0, s^2) give 1 - 2.65 / s / sqrt(pi / 2),
    90% for s = 21.
    """
    found: list[tuple[str, float]] = []
    for name, site in records.sites.items():
        if site.kind in ("activation", "input"):
            saturated = records.statistic(name, "saturated")
            share = saturated[np.argmax(~np.isnan(records.statistic(name, "mean")))] if at_start else late(saturated)
            if at_start and late(saturated) < _SATURATED / 2:
                continue
            if share >= _SATURATED and site.producer not in ("", *records.output_layers):
                found.append((name, share))
    if not found:
        return None
    name, share = max(found, key=lambda each: each[1])
    producers = [records.sites[each].producer for each, _ in found]
    spread = start_of(records.statistic(producers[0], "spread")) if producers[0] in records.sites else float("nan")
    return Diagnosis(
        "saturated_units",
        confidence((1 - _SATURATED + 1e-2) / (1 - share + 1e-2)),
        (
            f"{name}: {share:.0%} of the activations are within 1% of the ends of their range ({len(found)} layers)",
            f"{producers[0]}: the activation's input has standard deviation {spread:.3g}; about 1 is right",
        ),
        f"Divide the weights of {producers[0]} by {max(spread, 2):.2g}"
        + (", and normalise its inputs." if np.isfinite(spread) else ", or normalise its inputs."),
        tuple(p.name for p in records.parameters if p.module in producers),
    )


def constant_input(records: Records) -> Diagnosis | None:
    """Name an input that is the same for every example at every record, so that the output is, too."""
    if "output" not in records.sites or not late(records.statistic("output", "variation")) < _VARIATION:
        return None
    for name, site in records.sites.items():
        if site.kind == "data" and (records.statistic(name, "variation") < _VARIATION).all():
            return Diagnosis(
                "constant_output",
                1.0,
                (f"{name}: the model's input is the same for every example, at every record",),
                "Look at a batch: the inputs are constant, so the output is; a scale, a cast to integers or a mask has "
                "removed the differences.",
            )
    return None


def constant_output(records: Records) -> Diagnosis | None:
    """Name an output that does not depend on the example, at the first record and at the last.

    The standard deviation over examples is below 1e-5 of the root mean square: float32 rounding leaves 1e-7. At the
    first record alone it is no fault: a head may start at zero on purpose.
    """
    if "output" not in records.sites:
        return None
    variation = records.statistic("output", "variation")
    values = variation[~np.isnan(variation)]
    if not len(values) or late(values) >= _VARIATION or (len(values) > 1 and np.median(values) >= _VARIATION):
        return None
    first = _first_constant(records)
    if first:
        where = f"{first}: from here on it is the same for every example"
    elif len(records.sites) > 1:
        where = "the layers before it do vary"
    else:
        where = "the layers before it were not seen"
    return Diagnosis(
        "constant_output",
        confidence(_VARIATION / max(late(values), 1e-9)),
        (f"output: its standard deviation over examples is {late(values):.1g} of its size at the last record", where),
        f"Look at what happens {'at ' + first if first else 'after the last layer'}: a mean or a softmax over the "
        "wrong dimension, a mask of zeros, a clamp, or a bias that saturates what follows.",
        tuple(p.name for p in records.parameters if p.module in records.output_layers),
    )


def _first_constant(records: Records) -> str:
    """Return the first site after which nothing varies with the example; "" if only the output does not."""
    first = ""
    for name in records.sites:
        if name == "output":
            continue
        constant = start_of(records.statistic(name, "variation")) < _VARIATION
        first = (first or name) if constant else ""
    return first
