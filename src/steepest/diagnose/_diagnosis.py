"""The diagnosis of a run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CAUSES", "Diagnosis"]

CAUSES = (
    "disconnected_parameters",
    "zero_gradients",
    "symmetric_units",
    "non_finite",
    "constant_output",
    "dead_units",
    "saturated_units",
    "exploding_gradients",
    "vanishing_gradients",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "data_unrelated_to_target",
    "healthy",
    "undetermined",
)
"""Every cause that a diagnosis can name; "undetermined" only before a step was recorded."""


@dataclass(frozen=True)
class Diagnosis:
    """Why a run does not train, or that nothing is wrong with it.

    Attributes:
        cause: One of `CAUSES`.
        confidence: From 0 to 1. 1 where the cause is a fact (a gradient that is None); else m / (1 + m), m >= 1 the
            factor by which the decisive number exceeds its threshold; for a healthy run T / (T + 10) after T records.
        evidence: Sentences with the numbers, and with the names of the layers where they were measured.
        remedy: What to do, as a sentence with a value.
        parameters: The names of the affected parameters.
    """

    cause: str
    confidence: float
    evidence: tuple[str, ...]
    remedy: str
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.cause} (confidence {self.confidence:.2f})", *(f"  - {line}" for line in self.evidence)]
        return "\n".join([*lines, f"  What to do: {self.remedy}"] if self.remedy else lines)
