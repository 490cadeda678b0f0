"""Right estimators, with as many samples as an audit takes to see a factor of 1.02 in a second or so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from steepest.estimators import FiniteDifference, Pathwise, ScoreFunction

__all__ = ["NAMES", "SIGMAS", "SIX", "cases", "right"]

SIGMAS = (0.05, 0.1, 0.3, 0.6, 1.0)
SIX = ("quadratic", "multimodal", "quantized", "absolute", "rosenbrock", "product")
"""The objectives of the sweep."""

NAMES = (
    "score function, pairs",
    "score function, single",
    "score function, control variate",
    "score function, no baseline",
    "pathwise",
    "pathwise, pairs",
    "differences",
    "differences, forward",
    "differences, random directions",
)


def right(name: str, sigma: float, samples: int = 1000) -> Any:
    """Return an estimator of NAMES."""
    makers = {
        "score function, pairs": lambda: ScoreFunction(sigma, samples),
        "score function, single": lambda: ScoreFunction(sigma, samples, antithetic=False),
        "score function, control variate": lambda: ScoreFunction(sigma, samples, baseline="control-variate"),
        # The values themselves, and not their differences, are the noise: at small sigma that is far more.
        "score function, no baseline": lambda: ScoreFunction(sigma, 40 * samples, antithetic=False, baseline=None),
        "pathwise": lambda: Pathwise(sigma, samples),
        "pathwise, pairs": lambda: Pathwise(sigma, samples, antithetic=True),
        "differences": lambda: FiniteDifference(samples=samples // 4, sigma=sigma),
        "differences, forward": lambda: FiniteDifference(samples=samples // 4, sigma=sigma, central=False),
        "differences, random directions": lambda: FiniteDifference(
            samples=2 * samples, sigma=sigma, directions="random"
        ),
    }
    return makers[name]()


def cases() -> Iterator[tuple[str, str, float]]:
    """Yield (estimator, objective, sigma): all but derivatives of the quantised objective, which are zero."""
    for name in NAMES:
        for objective in SIX:
            if objective == "quantized" and not name.startswith("score"):
                continue
            for sigma in SIGMAS:
                yield name, objective, sigma
