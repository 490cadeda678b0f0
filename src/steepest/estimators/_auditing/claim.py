"""What an estimator claims to differentiate, and the same estimator with other settings."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch.distributions import Distribution

from steepest.estimators._perturbation import Perturbation

__all__ = ["Claim", "rebuilt"]


@dataclass(frozen=True)
class Claim:
    """F(x) = E f(x + sigma e), e ~ q.

    Attributes:
        sigma: The scale of the perturbation; 0 for f itself.
        perturbation: q.
    """

    sigma: float
    perturbation: Perturbation

    @classmethod
    def of(cls, source: Any, sigma: float | None, distribution: Distribution | None) -> Claim:
        """Return what a source claims by its attributes `sigma` and `distribution`, or what the caller says of it."""
        if sigma is None:
            found = getattr(source, "sigma", 0.0)
            sigma = float(found) if isinstance(found, (int, float)) else 0.0
        if distribution is None:
            own = getattr(source, "distribution", getattr(getattr(source, "_perturbation", None), "distribution", None))
            distribution = own if isinstance(own, Distribution) else None
        return cls(sigma, Perturbation(distribution))

    @property
    def normal(self) -> bool:
        """Whether q is the standard normal distribution."""
        return self.perturbation.distribution is None

    def at(self, sigma: float) -> Claim:
        """Return the claim for another scale."""
        return replace(self, sigma=sigma)


def rebuilt(source: Any, **settings: Any) -> Any | None:
    """Return a copy of a source with other settings; None where it has no such attributes.

    Whether the copy heeds them has to be seen from the points at which it evaluates.
    """
    if not all(hasattr(source, name) for name in settings):
        return None
    try:
        twin = copy.copy(source)
        for name, value in settings.items():
            object.__setattr__(twin, name, value)
    except Exception:  # a property without a setter, slots, an object that cannot be copied
        return None
    return twin
