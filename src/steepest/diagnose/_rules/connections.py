"""Parameters that the loss, the gradients or the optimizer do not reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules.measures import listed

__all__ = ["disconnected_parameters"]


def disconnected_parameters(records: Records) -> Diagnosis | None:
    """Name parameters that cannot train, unless the user said that they are frozen.

    Each is a fact without a threshold, and one of the whole run, since layers are unfrozen and parameter groups added.
    The parameter stays, and at every record `requires_grad` is False, or the optimizer does not hold it, or its
    gradient is None (detached, or not used) while others have one; or it is registered with no module, though the
    output depends on it; or no optimizer is known, and it never moved while others did, although it has a gradient.
    """
    watched = np.array([not p.frozen for p in records.parameters])
    # A parameter that moves is updated by something: an unknown optimizer, or an average of other weights.
    stays = (np.nan_to_num(records.rows.update) > 0).sum(axis=0) < 2
    fixed = np.array([not p.trainable for p in records.parameters]) & stays
    left_out = np.array([p.optimised is False for p in records.parameters]) & stays
    never = records.rows.missing.all(axis=0) & ~fixed & stays
    still = _still(records)
    evidence: list[str] = []
    remedies: list[str] = []
    for which, says, remedy in (
        (fixed, "requires_grad is False", "call requires_grad_(True)"),
        (left_out & ~fixed, "not in the optimizer", "make the optimizer from all of model.parameters()"),
        (
            never & ~left_out,
            "no gradient at any record",
            "look for .detach(), .data, torch.no_grad() or a layer that forward() does not call",
        ),
        (still & ~left_out & ~never, "never changes, although it has a gradient", "give it to the optimizer"),
    ):
        names = records.names(which & watched)
        if names:
            evidence.append(f"{listed(names)}: {says} ({len(names)} of {len(records.parameters)} parameters)")
            remedies.append(remedy)
    if records.unregistered:
        shapes = ", ".join(map(str, records.unregistered[:3]))
        evidence.append(
            f"{len(records.unregistered)} parameters of shapes {shapes} take part in forward() and belong to no module"
        )
        remedies.append("keep layers in an nn.ModuleList and not in a list, so that model.parameters() has them")
    if not evidence:
        return None
    names = records.names((fixed | left_out | never | still) & watched)
    name = names[0].rpartition(".")[0] or names[0] if names else ""
    on_purpose = f'; if it is on purpose, say so: Monitor(..., frozen=["{name}"])' if names else ""
    return Diagnosis("disconnected_parameters", 1.0, tuple(evidence), f"{_sentence(remedies)}{on_purpose}.", names)


def _still(records: Records) -> NDArray[np.bool_]:
    """Return which parameters have not moved at all, if others have."""
    update, gradient, weight = records.rows.update, records.rows.gradient, records.rows.weight
    nobody_knows = np.array([p.optimised is None and p.trainable for p in records.parameters])
    if len(records.steps) < 3 or not (np.nan_to_num(update) > 0).any():
        return np.zeros(len(records.parameters), dtype=bool)
    with np.errstate(invalid="ignore"):
        # Of a large parameter only some entries are sampled, but the norm is that of all.
        moved = (update > 0).any(axis=0) | np.isnan(update).all(axis=0) | (weight != weight[0]).any(axis=0)
        pushed = (gradient > 1e-6 * np.nanmax(gradient)).all(axis=0)
    return nobody_knows & ~moved & pushed


def _sentence(remedies: list[str]) -> str:
    text = "; ".join(dict.fromkeys(remedies))
    return text[:1].upper() + text[1:]
