"""The tangent features of a network over its training, as a result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from steepest._check import boolean, finite, in_range, instance
from steepest.errors import InvalidArgument
from steepest.features._snapshots import Snapshot, Snapshots
from steepest.linearize import RIDGE

__all__ = ["Features", "rank_in_words"]


@dataclass(frozen=True, kw_only=True)
class Features:
    """The tangent features of a network over its training: plain data, and sentences and numbers derived from it.

    Attributes:
        snapshots: The linearizations.
        task_name: The name of the task.
        losses: The validation loss by step.
        settings: The settings of the training, in the order in which they are shown.
        diverged: Whether the run diverged.
        constant_loss: The validation loss of the best constant output, as far as known: of the mean of the targets, or
            of the frequencies of the classes; None where that is unknown.
    """

    snapshots: Snapshots
    task_name: str
    losses: Mapping[int, float]
    settings: Mapping[str, str]
    diverged: bool = False
    constant_loss: float | None = None

    def __post_init__(self) -> None:
        instance("snapshots", self.snapshots, Snapshots, "Snapshots")
        boolean("diverged", self.diverged)
        instance("task_name", self.task_name, str, "a string")
        for name in ("losses", "settings"):
            instance(name, getattr(self, name), Mapping, "a mapping")
        for loss in self.losses.values():
            in_range("losses", loss, "(-inf, inf]")
        if self.constant_loss is not None:
            object.__setattr__(self, "constant_loss", finite("constant_loss", self.constant_loss))
        if missing := [snapshot.step for snapshot in self.snapshots.found if snapshot.step not in self.losses]:
            raise InvalidArgument("losses must hold one loss per snapshot", got=f"none at step {missing[0]}")

    @property
    def first(self) -> Snapshot:
        """The snapshot at initialisation."""
        return self.snapshots.found[0]

    @property
    def last(self) -> Snapshot:
        """The last snapshot."""
        return self.snapshots.found[-1]

    @cached_property
    def fit(self) -> str:
        """Whether the network has fitted at all, in one sentence: its loss against that of a constant output.

        It has fitted where the loss is at most a tenth of the constant's, in part where it is at most nine tenths.
        Without a constant's loss, or where that is not above 0, the loss is compared with its start in the same way.
        """
        start, end = (self.losses[each.step] for each in (self.first, self.last))
        ran = f"the validation loss goes from {start:.3g} to {end:.3g} in {self.last.step:,} steps"
        if self.diverged:
            return f"The run diverged: the validation loss was {end:.3g} at step {self.last.step:,}, {start:.3g} before"
        constant = self.constant_loss
        reference = start if constant is None or constant <= 0 else constant
        said = "" if reference is start else f"; a constant output has {reference:.3g}"
        if reference <= 0:
            return f"{ran[0].upper()}{ran[1:]}"
        if end > 0.9 * reference:
            return f"The network has not fitted: {ran}{said}"
        return f"The network has fitted{'' if end <= 0.1 * reference else ' in part'}: {ran}{said}"

    @cached_property
    def headline(self) -> str:
        """What happened to the tangent kernel, in one sentence."""
        if self.last is self.first:
            ended = "diverged" if self.diverged else "ended"
            return f"The run {ended} before its features could be computed a second time"
        change = self.last.change
        if self.diverged:
            return (
                f"The run diverged after step {self.last.step:,}; until then the tangent kernel changed by "
                f"{_times(change.kernel_change)} its norm"
            )
        words = {"lazy": "Lazy training", "between": "Between lazy and feature learning"}
        how = words.get(change.regime, "Feature learning")
        return f"{how}: the tangent kernel (NTK) changes by {_times(change.kernel_change)} its norm"

    @cached_property
    def details(self) -> list[str]:
        """Further results, in sentences."""
        first, last = self.first, self.last
        rows, columns = self.snapshots.linearization.shape
        rank = rank_in_words(first)
        said = [
            f"The feature matrix holds the derivatives of the {rows:,} outputs with respect to the {columns:,} "
            "parameters. Its numerical rank, the number of independent directions in which the parameters can move the "
            f"outputs, is {rank} at initialisation"
            + ("." if last is first else f" and {rank_in_words(last)} after {last.step:,} steps.")
        ]
        if last is not first:
            before, after = first.target_alignment, last.target_alignment
            target = (
                "" if before is None or after is None else f", and with the target {after:.2g}, {before:.2g} before"
            )
            said.append(
                "Alignment is the cosine between two kernels (feature matrix times its transpose): 1 for equal ones, "
                "up to a factor, and 0 for unrelated ones. At the end the kernel's alignment with its start is "
                f"{last.change.kernel_alignment:.2f}{target}."
            )
        if self.diverged:
            said.append("The run diverged; only the steps before are shown.")
        said.extend(
            f"At step {step:,} the network could not be linearised: {why}"
            for step, why in self.snapshots.refused.items()
        )
        return said

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON; infinite ones are None."""
        rows, columns = self.snapshots.linearization.shape
        return {
            "fit": self.fit,
            "headline": self.headline,
            "details": self.details,
            "task": self.task_name,
            "settings": dict(self.settings),
            "diverged": self.diverged,
            "constant_loss": self.constant_loss,
            "examples": self.snapshots.linearization.examples,
            "outputs": self.snapshots.linearization.outputs,
            "rows": rows,
            "features": columns,
            "precision": self.snapshots.precision,
            "paths": dict(self.snapshots.linearization.paths),
            "ridge": RIDGE,
            "snapshots": [
                {name: None if value == math.inf else value for name, value in self.record(each).items()}
                for each in self.snapshots.found
            ],
            "refused": {str(step): why for step, why in self.snapshots.refused.items()},
        }

    def record(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the numbers of one snapshot."""
        change, svd = snapshot.change, snapshot.svd
        return {
            "step": snapshot.step,
            "loss": self.losses[snapshot.step],
            "rank": svd.rank,
            "rank_complete": svd.complete,
            "threshold": svd.threshold,
            "effective_rank": snapshot.effective_rank,
            "kernel_alignment": change.kernel_alignment,
            "kernel_change": change.kernel_change,
            "subspace_overlap": change.subspace_overlap,
            "subspace_directions": change.k,
            "parameter_change": change.parameter_change,
            "regime": change.regime,
            "target_alignment": snapshot.target_alignment,
            "singular_values": svd.singular_values.tolist(),
        }


def rank_in_words(snapshot: Snapshot) -> str:
    """Return a rank as text, or "at least" its lower bound."""
    return f"{'' if snapshot.svd.complete else 'at least '}{snapshot.svd.rank:,}"


def _times(change: float) -> str:
    if not math.isfinite(change):
        return "infinitely many times"
    return f"{change:.2g} times" if change >= 2 else f"{100 * change:.2g}% of"
