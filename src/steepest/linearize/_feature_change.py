"""The tangent features of a network before and after a training run, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steepest._check import instance
from steepest.errors import InvalidArgument
from steepest.linearize._change import compare_linearizations
from steepest.linearize._linearization import Linearization

__all__ = ["RIDGE", "FeatureChange", "Spectrum"]

RIDGE = 1e-3
"""The ridge of the effective rank, relative to the largest squared singular value."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The singular values of a network's feature matrix, d outputs / d parameters.

    Attributes:
        singular_values: Descending.
        rank: The number of singular values above the threshold.
        threshold: Singular values below this are numerical noise.
        effective_rank: The sum of s^2 / (s^2 + s_1^2 / 1000).
    """

    singular_values: list[float] = field(repr=False)
    rank: int
    threshold: float
    effective_rank: float

    @classmethod
    def of(cls, linearization: Linearization) -> Spectrum:
        """Return the spectrum of a linearization, rounded to six digits, which suffice for a chart.

        Raises:
            InvalidArgument: If linearization is no `Linearization`.
        """
        svd = instance("linearization", linearization, Linearization, "a Linearization").svd()
        ridge = RIDGE * float(svd.singular_values[0]) ** 2
        return cls(
            singular_values=[float(f"{value:.6g}") for value in svd.singular_values],
            rank=svd.rank,
            threshold=svd.threshold,
            effective_rank=linearization.effective_rank(ridge) if ridge else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class FeatureChange:
    """A network's tangent features at initialisation and at the end of a run.

    Attributes:
        examples: The number of training examples at which the features were computed.
        rows: The number of rows of the Jacobian, examples times outputs.
        columns: The number of trainable parameters, counted by entries.
        start: The spectrum at initialisation.
        end: The spectrum at the end of the run.
        kernel_alignment: The cosine between the two kernels.
        kernel_change: The Frobenius norm of the kernels' difference, relative to that of the first kernel.
        regime: "lazy", "between" or "feature learning".
    """

    examples: int
    rows: int
    columns: int
    start: Spectrum
    end: Spectrum
    kernel_alignment: float
    kernel_change: float
    regime: str

    @classmethod
    def of(cls, start: Linearization, end: Linearization) -> FeatureChange:
        """Return the change between two linearizations of one model at the same examples.

        Raises:
            InvalidArgument: If the two have different examples or parameters.
        """
        change = compare_linearizations(start, end)
        return cls(
            examples=start.examples,
            rows=start.shape[0],
            columns=start.shape[1],
            start=Spectrum.of(start),
            end=Spectrum.of(end),
            kernel_alignment=change.kernel_alignment,
            kernel_change=change.kernel_change,
            regime=change.regime,
        )

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> FeatureChange:
        """Rebuild a `FeatureChange` from what `dataclasses.asdict` returned.

        Raises:
            InvalidArgument: If numbers is something else.
        """
        instance("numbers", numbers, Mapping, "a mapping")
        try:
            plain: dict[str, Any] = {**numbers}
            for end in ("start", "end"):
                plain[end] = Spectrum(**plain[end])
            return cls(**plain)
        except (KeyError, TypeError) as error:
            raise InvalidArgument(
                "numbers must be what dataclasses.asdict returns for a FeatureChange", got=str(error)
            ) from error
