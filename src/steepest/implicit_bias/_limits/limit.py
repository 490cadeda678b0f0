"""What a theorem states about the limit of a run, and the certificate that checks a run's end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ROUNDING", "Certificate", "Limit", "Unknown", "norm_of", "reaches", "rests", "solves_each"]

ROUNDING = 10 * torch.finfo(torch.float64).eps
"""The rounding error that is allowed for sums and products in float64, relative to the size of their terms."""
_SINGLE = 2.0**-24


@dataclass(frozen=True)
class Certificate:
    """Whether a point is the predicted one, with the numbers that decide it.

    Attributes:
        passed: Whether all of them are within the tolerance. Never where no kind of point is predicted.
        residual: How far the point is from minimising the loss: ||A theta - t||, t the part of the targets that can be
            reached; for a direction, the duality gap between its margin and the largest one, relative to the largest.
        distance: How far the point is from the set in which the rule moves: the distance of grad psi(theta) - grad
            psi(theta0) from the row space of A, or of theta - theta0 from the steps' span; for a direction, its
            distance from the predicted one. NaN where no kind of point is predicted.
        error: ||theta - predicted|| / ||predicted - theta0||, for a direction as `distance`; NaN where there is none.
        tolerance: The tolerance of each, relative to the distance from theta0 to the limit.
    """

    passed: bool
    residual: float
    distance: float
    error: float
    tolerance: float

    def __bool__(self) -> bool:
        """Return `passed`."""
        return self.passed

    def __str__(self) -> str:
        """Return the verdict with the numbers, the error as a share of the way that the rule had to go."""
        if math.isnan(self.error):
            return f"fails: no kind of point is predicted; residual {self.residual:.3g}"
        return (
            f"{'passes' if self.passed else 'fails'}: {self.error:.2g} of the way off, allowed {self.tolerance:.2g}; "
            f"residual {self.residual:.3g}, distance {self.distance:.3g}"
        )


class Limit(ABC):
    """What is known of a rule on one problem.

    A subclass must implement the point (or the direction in which theta grows) and the check of any end of a run.
    """

    reason: str

    @property
    def determined(self) -> bool:
        """Whether the limit is known to be a function of A, b, theta0 and the rule alone."""
        return True

    @property
    def point(self) -> Tensor | None:
        """Where the run ends."""
        return None

    @property
    def direction(self) -> Tensor | None:
        """The limit of theta / ||theta||_2, for a theta that diverges."""
        return None

    @abstractmethod
    def certify(self, theta: Tensor, tolerance: float) -> Certificate:
        """Check the end of a run."""


@dataclass(frozen=True, eq=False)
class Unknown(Limit):
    """Nothing determines the limit, or nothing that is known does.

    Attributes:
        reason: Why.
        targets: A and the values of A theta at a minimiser, where there are any.
    """

    reason: str
    targets: tuple[Tensor, Tensor] | None = None

    @property
    def determined(self) -> bool:
        """False."""
        return False

    def certify(self, theta: Tensor, tolerance: float) -> Certificate:
        """Fail, and still report the residual of the equations."""
        residual = torch.nan
        if self.targets is not None:
            A, target = self.targets
            residual = norm_of(A @ theta - target)
        return Certificate(False, residual, torch.nan, torch.nan, tolerance)


def norm_of(x: Tensor) -> float:
    """Return ||x||_2, without under- or overflow of the squares."""
    largest = float(x.abs().max()) if x.numel() else 0.0
    if not 0 < largest < math.inf:
        return largest
    return float(torch.linalg.vector_norm(x / largest)) * largest


def reaches(end: Tensor, limit: Tensor, theta0: Tensor, rounding: Tensor, tolerance: float) -> tuple[bool, float]:
    """Return whether `end` is the limit to the tolerance, and its error relative to the way from theta0.

    What is added for rounding is counted coordinate by coordinate: a huge one must not hide the others.
    """
    missed, way = end - limit, norm_of(limit - theta0)
    error = norm_of(missed) / way if way else (0.0 if bool((missed.abs() <= rounding).all()) else math.inf)
    # Compared with <=, so that NaN does not pass.
    return math.isfinite(way) and norm_of((missed.abs() - rounding).clamp_min(0)) <= tolerance * way, error


def rests(end: Tensor, theta0: Tensor, still: Tensor | None) -> bool:
    """Return whether coordinates that nothing moves are where they started, to the rounding of a start in float32."""
    if still is None:
        return True
    return not bool((((end - theta0).abs() > _SINGLE * theta0.abs()) & still).any())


def solves_each(
    A: Tensor, target: Tensor, end: Tensor, theta0: Tensor, due: Tensor, rounding: Tensor, tolerance: float
) -> bool:
    """Return whether every row of A end = target holds, to the tolerance relative to how far that row had to go."""
    sizes = A.abs()
    way = (target - A @ theta0).abs() + sizes @ due.abs()
    lost = ROUNDING * (sizes @ (end.abs() + theta0.abs()) + target.abs()) + sizes @ rounding
    return bool(((A @ end - target).abs() <= tolerance * way + lost).all() & way.isfinite().all())
