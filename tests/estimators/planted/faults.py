"""The planted faults: an estimator with one fault, on an objective, and the name that it must get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.estimators.planted.wrong import (
    ByHand,
    Changed,
    DifferencesByHand,
    PartOfTheGraph,
    Stale,
    flip_first,
    mapped,
)

from steepest.estimators import Backprop, FiniteDifference, Pathwise, ScoreFunction

__all__ = ["FAULTS_PLANTED", "SAMPLE", "Planted"]


@dataclass(frozen=True)
class Planted:
    """A fault.

    Attributes:
        label: What is wrong, and in which estimator.
        objective: A name in OBJECTIVES.
        name: What the audit must say.
        make: Makes the estimator.
    """

    label: str
    objective: str
    name: str
    make: Callable[[], Any]


FAULTS_PLANTED: list[Planted] = []
"""All of them."""


def plant(label, name, objectives, make):
    """Add a fault for each objective."""
    FAULTS_PLANTED.extend(Planted(label, objective, name, make) for objective in objectives.split())


def times(inner, factor):
    """An estimator times a factor."""
    return Changed(
        inner,
        gradient=lambda g, _x: mapped(g, lambda each: factor * each),
        error=lambda e: mapped(e, lambda each: abs(factor) * each),
    )


def plus(inner, term):
    """An estimator plus a vector that may depend on x."""
    return Changed(
        inner,
        gradient=lambda g, x: {n: g[n] + term(x[n]) for n in g} if isinstance(g, dict) else g + term(x),
    )


def score(sigma=0.3, samples=50, **options):
    """A right score function."""
    return ScoreFunction(sigma, samples, **options)


# A missing or doubled factor of sigma (numpyro#1512, TorchOpt's "forward").
plant(
    "score, divided by sigma^2",
    "missing factor of sigma",
    "quadratic multimodal quantized absolute product",
    lambda: ByHand(0.3, 50, "sigma squared"),
)
plant(
    "score, not divided by sigma",
    "missing factor of sigma",
    "quadratic multimodal rosenbrock product",
    lambda: ByHand(0.3, 50, "no sigma"),
)
plant(
    "score, TorchOpt's forward difference, times sigma",
    "missing factor of sigma",
    "multimodal product",
    lambda: ByHand(0.1, 50, "torchopt forward"),
)
plant(
    "pathwise, times sigma",
    "missing factor of sigma",
    "quadratic absolute network",
    lambda: times(Pathwise(0.2, 20), 0.2),
)
plant(
    "random differences, over sigma",
    "missing factor of sigma",
    "multimodal product",
    lambda: times(FiniteDifference(samples=20, sigma=0.3, directions="random"), 1 / 0.3),
)
# A sign (pyro#2798).
plant("score, sign", "flipped sign", "quadratic multimodal quantized network", lambda: times(score(), -1))
plant("pathwise, sign", "flipped sign", "absolute rosenbrock", lambda: times(Pathwise(0.1, 20), -1))
plant("differences, sign", "flipped sign", "multimodal product", lambda: times(FiniteDifference(1e-3), -1))
plant(
    "score, sign of one entry",
    "flipped sign",
    "multimodal quantized product absolute",
    lambda: Changed(score(), gradient=flip_first),
)
plant(
    "backprop, sign of one entry",
    "flipped sign",
    "quadratic rosenbrock network",
    lambda: Changed(Backprop(), gradient=flip_first),
)
# A missing term (pyro#2894): an entropy, a penalty, a part of the graph.
plant(
    "score, plus a constant vector",
    "additive term",
    "quadratic multimodal absolute product",
    lambda: plus(score(), lambda _x: 0.7),
)
plant(
    "score, plus the gradient of a penalty",
    "additive term",
    "multimodal quantized product",
    lambda: plus(score(), lambda x: 0.5 * x + 0.3),
)
plant(
    "pathwise, plus the gradient of a penalty",
    "additive term",
    "rosenbrock network",
    lambda: plus(Pathwise(0.2, 20), lambda x: 20 * x),
)
plant(
    "backprop, plus a constant vector", "additive term", "multimodal network", lambda: plus(Backprop(), lambda _x: 0.1)
)
plant(
    "pathwise, an entry left out of the graph",
    "additive term",
    "quadratic multimodal absolute rosenbrock product",
    lambda: PartOfTheGraph(0.2, 20),
)
# A baseline that contains its own sample.
for n in (4, 10, 20):
    plant(
        f"score, own sample in the baseline, n={n}",
        "own sample in the baseline",
        "quadratic multimodal product",
        lambda n=n: ByHand(0.3, n, "own sample"),
    )
plant(
    "score, own sample in the baseline, n=10",
    "own sample in the baseline",
    "quantized absolute",
    lambda: ByHand(0.3, 10, "own sample"),
)
# Antithetic pairs counted as independent.
plant(
    "score, all members of pairs counted",
    "antithetic pairs counted as independent",
    "quadratic multimodal product quantized",
    lambda: ByHand(0.3, 40, "pairs apart"),
)
plant(
    "score, pairs averaged, and counted twice",
    "antithetic pairs counted as independent",
    "quadratic multimodal absolute quantized",
    lambda: ByHand(0.3, 40, "half the pairs"),
)
plant(
    "pathwise, pairs averaged, and counted twice",
    "antithetic pairs counted as independent",
    "multimodal product",
    lambda: Changed(Pathwise(0.3, 40, antithetic=True), error=lambda e: e / 2**0.5),
)
# Other standard errors.
plant(
    "score, standard error times 1.5",
    "wrong standard error",
    "quadratic multimodal network",
    lambda: Changed(score(antithetic=False), error=lambda e: mapped(e, lambda each: 1.5 * each)),
)
plant(
    "pathwise, standard deviation",
    "wrong standard error",
    "multimodal rosenbrock",
    lambda: Changed(Pathwise(0.3, 20), error=lambda e: e * 20**0.5),
)
plant(
    "score, standard error over n",
    "wrong standard error",
    "product quantized",
    lambda: Changed(score(antithetic=False), error=lambda e: e / 50**0.5),
)
# A step of the wrong scale.
plant(
    "score, points at twice sigma",
    "wrong step",
    "multimodal absolute product quantized",
    lambda: ByHand(0.3, 50, "twice the step"),
)
plant(
    "score, sigma^2 in place of sigma",
    "wrong step",
    "multimodal quantized",
    lambda: ByHand(0.4, 50, "sigma squared as step"),
)
plant(
    "central differences without the 2",
    "wrong step",
    "quadratic multimodal rosenbrock product",
    lambda: DifferencesByHand(1e-2, mistake="no two"),
)
plant(
    "forward differences over 2 delta",
    "wrong step",
    "absolute product",
    lambda: DifferencesByHand(1e-3, mistake="two for one side"),
)
plant(
    "delta in place of sigma",
    "wrong step",
    "multimodal absolute product",
    lambda: DifferencesByHand(0.01, 20, 0.3, "delta for sigma"),
)
plant("a step far too large", "step too large", "multimodal", lambda: FiniteDifference(0.25, central=False))
plant("a step far too large, central", "step too large", "product rosenbrock", lambda: FiniteDifference(0.4))
plant("a step far too small", "step too small", "multimodal rosenbrock", lambda: FiniteDifference(1e-7, central=False))
# A stale sample.
plant("score, new samples every fifth call", "stale sample", "quadratic multimodal network", lambda: Stale(score(), 5))
plant("pathwise, one sample forever", "stale sample", "multimodal rosenbrock", lambda: Stale(Pathwise(0.3, 20), 10**9))
plant(
    "score, half of the last sample again",
    "stale sample",
    "multimodal absolute quantized",
    lambda: ByHand(0.3, 50, "half reused"),
)
plant("score, seeds itself", "stale sample", "product quantized", lambda: ByHand(0.3, 50, "own seed"))
plant(
    "score, copies of a fifth of the sample", "stale sample", "multimodal quadratic", lambda: ByHand(0.3, 50, "copies")
)
# Other factors.
plant("score, times 1.02", "wrong factor", "quadratic multimodal product", lambda: times(score(0.3, 1000), 1.02))
plant("pathwise, times 1.02", "wrong factor", "quadratic network", lambda: times(Pathwise(0.1, 50), 1.02))
plant("score, times 1.3", "wrong factor", "multimodal quantized absolute", lambda: times(score(), 1.3))
plant(
    "score, clipped to length 1",
    "wrong factor",
    "multimodal",
    lambda: Changed(score(0.3, 2000), gradient=lambda g, _x: g / g.norm()),
)
# What is said beside the gradient.
plant(
    "score, pairs counted once",
    "wrong evaluations",
    "multimodal network",
    lambda: Changed(score(), evaluations=lambda n: n // 2),
)
plant(
    "differences, the point itself not counted",
    "wrong evaluations",
    "multimodal",
    lambda: Changed(FiniteDifference(1e-4, central=False), evaluations=lambda n: n - 1),
)
plant("score, the sum as value", "wrong value", "multimodal product quantized", lambda: ByHand(0.3, 50, "sum"))
plant("score, the largest value", "wrong value", "quadratic quantized", lambda: ByHand(0.3, 50, "sample value"))
plant(
    "backprop, minus the value",
    "wrong value",
    "multimodal network",
    lambda: Changed(Backprop(), value=lambda found, _f, _x: -found.value),
)
plant("score, global random numbers", "generator not used", "multimodal", lambda: ByHand(0.3, 50, "global"))
# Gradients that are zero everywhere.
plant("backprop of a quantised objective", "identically zero", "quantized", Backprop)
plant("pathwise of a quantised objective", "identically zero", "quantized", lambda: Pathwise(0.3, 20))
plant("differences of a quantised objective", "identically zero", "quantized", lambda: FiniteDifference(1e-6))

SAMPLE = tuple({each.name: each for each in FAULTS_PLANTED if each.objective != "network"}.values())
"""One fault of each name."""
