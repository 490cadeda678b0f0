"""What is chosen, and why."""

from __future__ import annotations

from dataclasses import dataclass

from steepest.estimators._source import GradientSource

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice:
    """Estimators by their measured error.

    Attributes:
        estimator: The one to use.
        reason: Why, and what is not known, in sentences.
        decided: Whether the measurement tells it from all others, but for those of about the same error.
        sigma: The scale of the smoothed objective that all of them differentiate; 0 for f itself.
        candidates: The estimators that were measured, the best first.
        errors: Of each, the square root of bias^2 + variance over the length of the gradient, for one estimate.
        uncertainty: The relative standard error of each of these.
        evaluations: What was spent.
    """

    estimator: GradientSource
    reason: str
    decided: bool
    sigma: float
    candidates: tuple[GradientSource, ...]
    errors: tuple[float, ...]
    uncertainty: tuple[float, ...]
    evaluations: int

    def __str__(self) -> str:
        return f"{self.estimator!r}. {self.reason}"
