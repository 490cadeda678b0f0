"""The features of a network before and after a training run, as plain numbers."""

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
"""That of the effective rank, as a share of the largest squared singular value."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The singular values of a network's feature matrix, d outputs / d parameters.

    Attributes:
        singular_values: Descending.
        rank: How many exceed the threshold.
        threshold: Singular values below this are numerical noise.
        effective_rank: The sum of s^2 / (s^2 + s_1^2 / 1000).
    """

    singular_values: list[float] = field(repr=False)
    rank: int
    threshold: float
    effective_rank: float

    @classmethod
    def of(cls, linearization: Linearization) -> Spectrum:
        """Return that of a linearization, as precise as a chart: six digits.

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
    """A network's features at initialisation and at the end of a run.

    Attributes:
        examples: Training examples at which they were looked at.
        rows: Their outputs together.
        columns: Trainable parameters.
        start: The spectrum at initialisation.
        end: That at the end.
        kernel_alignment: The cosine between the two kernels.
        kernel_change: The norm of the kernels' difference over that of the first.
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
        """Return it for two linearizations of one model at the same examples.

        Raises:
            InvalidArgument: If the two do not belong together.
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
        """Return what `dataclasses.asdict` has made plain.

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
                "numbers must be a FeatureChange as dataclasses.asdict makes it plain", got=str(error)
            ) from error
