"""The records of a monitor as plain arrays: the only input of the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steepest._series import Array
from steepest.diagnose._statistics import STATISTICS, Site
from steepest.diagnose._watch.parameters import ParameterRows
from steepest.diagnose._watch.structure import Parameter

__all__ = ["Records"]


@dataclass(frozen=True)
class Records:
    """T records of a run with P parameters.

    Attributes:
        parameters: In the order of the model.
        steps: T, the numbers of the steps as the user gave them.
        loss: T, nan where none was given.
        given: T, whether a loss was given.
        lr: T, the largest learning rate of the optimizer; nan if no optimizer is known.
        peak_lr: The largest rate from which a schedule of the optimizer began; nan if none is known.
        resumed: Whether the optimizer had taken steps before the first record.
        momentum: The optimizer's momentum; 0 if it has none or is not known.
        stepped: T, whether the optimizer took the step (a gradient scaler may skip it).
        start: P, ||w||_2 before the first step.
        rows: Norms and updates.
        activations: By site: T x statistics, see `STATISTICS`.
        sites: By name, in the order of the forward pass.
        heads: The names of the weight layers from which the outputs come, with no other weight layer between.
        output_gradient: T, the root mean square over examples of ||dL_i/d output||, where it was seen.
        copies: By weight: T' pairs of a record's index (-1 before the first) and the share of units that are copies.
        baselines: The loss of the best constant predictor, by the name of the loss; empty if no target is known.
        inferred: The loss of the best constant predictor on the first batches, from loss and gradient alone; nan if the
            loss is not a usual one.
        first_nonfinite: In the first step with a site that was not finite, the first such site; "loss" if all sites
            were finite.
        unregistered: The shapes of parameters that take part in the forward pass and that no module has registered.
    """

    parameters: tuple[Parameter, ...]
    steps: NDArray[np.int64]
    loss: Array
    given: NDArray[np.bool_]
    lr: Array
    peak_lr: float
    resumed: bool
    momentum: float
    stepped: NDArray[np.bool_]
    start: Array
    rows: ParameterRows
    activations: Mapping[str, Array]
    sites: Mapping[str, Site]
    heads: frozenset[str]
    output_gradient: Array
    copies: Mapping[str, list[tuple[int, float]]]
    baselines: Mapping[str, float]
    inferred: float
    first_nonfinite: str | None
    unregistered: tuple[tuple[int, ...], ...]

    @classmethod
    def of_nothing(cls, parameters: tuple[Parameter, ...]) -> Records:
        """Return empty records of a run."""
        none, count = np.empty(0), len(parameters)
        rows, unknown = np.empty((0, count)), np.full(count, np.nan)
        return cls(
            parameters=parameters,
            steps=np.empty(0, dtype=np.int64),
            loss=none,
            given=np.empty(0, dtype=bool),
            lr=none,
            peak_lr=float("nan"),
            resumed=False,
            momentum=0.0,
            stepped=np.empty(0, dtype=bool),
            start=unknown,
            rows=ParameterRows(rows, rows.astype(bool), rows, rows, rows, unknown, float("nan"), rows.astype(bool)),
            activations={},
            sites={},
            heads=frozenset(),
            output_gradient=none,
            copies={},
            baselines={},
            inferred=float("nan"),
            first_nonfinite=None,
            unregistered=(),
        )

    def statistic(self, site: str, name: str) -> Array:
        """Return one statistic of a site over the records.

        >>> STATISTICS.index("dead")
        4
        """
        return self.activations[site][:, STATISTICS.index(name)]

    def names(self, which: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the names of the parameters chosen."""
        return tuple(p.name for p, chosen in zip(self.parameters, which, strict=True) if chosen)

    @property
    def weights(self) -> NDArray[np.bool_]:
        """P, which parameters are matrices or kernels that train."""
        return np.array([p.is_weight and p.trainable and not p.frozen for p in self.parameters])

    @property
    def mean_gradient_norm(self) -> Array:
        """T, the mean over the parameters that have a gradient of ||g||_2; nan where none has."""
        held = ~self.rows.missing
        counts = held.sum(axis=1)
        return np.where(counts, np.where(held, self.rows.gradient, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)

    @property
    def updates(self) -> Array:
        """T x P, update over weight, nan where a parameter had no gradient, as no step updated it."""
        return np.where(self.rows.missing, np.nan, self.rows.update)

    @property
    def finite_weights(self) -> NDArray[np.bool_]:
        """T, whether all weights that the model then had were finite."""
        return np.all(np.isfinite(self.rows.weight) | self.rows.absent, axis=1)

    @property
    def output_layers(self) -> frozenset[str]:
        """The names of the weight layers that compute the output; the one that runs last where they are not known."""
        if self.heads:
            return self.heads
        layers = [site.name for site in self.sites.values() if site.kind == "weight"]
        last = layers[-1] if layers else next((p.module for p in reversed(self.parameters) if p.is_weight), "")
        return frozenset([last])
