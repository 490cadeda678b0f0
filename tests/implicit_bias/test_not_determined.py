"""Families of problems whose limit is not determined: nothing is claimed, no end is certified, and the claim fails."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, optim

from steepest.implicit_bias import (
    Entropy,
    EpochAdam,
    GradientDescent,
    Hypentropy,
    MirrorDescent,
    NormSteepest,
    PNorm,
    SignDescent,
    certify,
    predict,
)
from steepest.norms import L1, LInf, Lp, Nuclear, Spectral

Instance = tuple[Tensor, Tensor]
Draw = Callable[[torch.Generator], Instance]
Failure = Literal["apart", "unsolved", "claim only"]


def gaussian(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def equations(m: int, n: int, absolute: bool = False) -> Draw:
    """Equations that have a solution, of positive entries if they are absolute."""

    def draw(g: torch.Generator) -> Instance:
        A, x = gaussian(g, m, n), gaussian(g, n)
        A, x = (A.abs(), x.abs() + 0.1) if absolute else (A, x)
        return A, A @ x

    return draw


def one(g: torch.Generator) -> Instance:
    """One equation whose coefficients have very different sizes."""
    signs = gaussian(g, 1, 3).sign()
    return signs * torch.tensor([[1.0, 0.1, 0.01]], dtype=torch.float64), 1 + gaussian(g, 1).abs()


def repeated(g: torch.Generator) -> Instance:
    """One equation, written four times in different units."""
    A, b = one(g)
    units = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    return units[:, None] * A, units * b


def contradicting(m: int, n: int, size: float = 1.0) -> Draw:
    """More equations than unknowns matter: the last repeats the first with another target, beside targets of a size."""

    def draw(g: torch.Generator) -> Instance:
        A, x = gaussian(g, m - 1, n), gaussian(g, n)
        b = A @ x
        b[-1] *= size
        return torch.cat([A, A[:1]]), torch.cat([b, b[:1] + 1])

    return draw


def contradicting_one(g: torch.Generator) -> Instance:
    A, b = one(g)
    return torch.cat([A, A]), torch.cat([b, b + 1])


def no_positive_solution(g: torch.Generator) -> Instance:
    return gaussian(g, 2, 6).abs(), torch.tensor([1.0, -1.0], dtype=torch.float64)


def runaway(g: torch.Generator) -> Instance:
    """Rows whose steps together move every residual away from 0: each row is heaviest where it is the odd one out."""
    A = torch.full((3, 6), -0.1, dtype=torch.float64)
    for i in range(3):
        A[i, 2 * i : 2 * i + 2] = 1 + 0.1 * gaussian(g, 2).abs()
    return A, 1 + 0.1 * gaussian(g, 3).abs()


def nearly_dependent(g: torch.Generator) -> Instance:
    """A second row that differs from the first by 3e-13 of it."""
    A = gaussian(g, 1, 4)
    A = torch.cat([A, A + 3e-13 * gaussian(g, 1, 4)])
    return A, A @ gaussian(g, 4)


def labels(m: int) -> Tensor:
    return torch.ones(m, dtype=torch.float64)


def separable(g: torch.Generator) -> Instance:
    A, w = gaussian(g, 6, 4), gaussian(g, 4)
    return A, torch.where(A @ w > 0, 1.0, -1.0).double()


def opposite(g: torch.Generator) -> Instance:
    """Every example with its opposite: nothing separates any of them."""
    A = gaussian(g, 3, 4)
    return torch.cat([A, -2 * A]), labels(6)


def separable_in_part(g: torch.Generator) -> Instance:
    """Opposite examples in two coordinates; others beside them that a third coordinate separates."""
    A = gaussian(g, 5, 3)
    A[:2, 2], A[1] = 0, -A[0]
    A[2:, 2] = A[2:, 2].abs() + 0.1
    A[1, 2] = 0
    return A, labels(5)


def hardly_separable_in_part(g: torch.Generator) -> Instance:
    """The same, by an entry so small that a linear program takes it for 0."""
    small = 5e-10 * (1 + gaussian(g, 1).abs().item() * 0.1)
    return torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, small]], dtype=torch.float64), labels(3)


def tied_largest_entry(g: torch.Generator) -> Instance:
    """Examples that lack a coordinate, which is free in the largest-entry norm."""
    A = gaussian(g, 6, 4)
    A[:, 3] = 0
    return A, torch.where(A @ gaussian(g, 4) > 0, 1.0, -1.0).double()


def tied_sum(g: torch.Generator) -> Instance:
    """One example with two equally large entries: any mixture of both has the largest L1 margin."""
    a = gaussian(g, 1, 4).clamp(-1, 1)
    a[0, :2] = torch.tensor([2.0, -2.0])
    return a, labels(1)


@dataclass(frozen=True)
class Family:
    """A rule and problems of which no limit is known, and how that shows.

    Attributes:
        name: What is special.
        rule: A rule, or what makes one for n unknowns.
        draw: The problems.
        fails: Runs whose ends lie apart, runs that solve nothing, or nothing cheap to show.
        loss: As for predict.
        schedules: Of the runs; the rule's own by default.
        theta0: Each of the starting values, by default the rule's own.
        steps: Of each run.
    """

    name: str
    rule: Any
    draw: Draw
    fails: Failure = "apart"
    loss: str = "squared"
    schedules: Sequence[Any] | None = None
    theta0: float | None = None
    steps: int = 300

    def instance(self, seed: int) -> tuple[Any, Tensor, Tensor, Tensor | None]:
        """Return a problem with its rule and start."""
        A, b = self.draw(torch.Generator().manual_seed(seed))
        start = None if self.theta0 is None else torch.full((A.shape[1],), self.theta0, dtype=torch.float64)
        return (self.rule(A.shape[1]) if isinstance(self.rule, Made) else self.rule), A, b, start


@dataclass(frozen=True)
class Made:
    """What makes a live optimizer over n numbers."""

    make: Callable[[int], optim.Optimizer]

    def __call__(self, n: int) -> optim.Optimizer:
        return self.make(n)


class Unheard(optim.SGD):
    """An optimizer of somebody's own."""


def halves(n: int) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(k, dtype=torch.float64)) for k in (1, n - 1)]


def two_momenta(n: int) -> optim.Optimizer:
    first, second = halves(n)
    return optim.SGD([{"params": [first], "momentum": 0.9}, {"params": [second]}], lr=0.1)


def lbfgs_with_a_past(n: int) -> optim.Optimizer:
    theta = torch.nn.Parameter(torch.zeros(n, dtype=torch.float64))
    optimizer = optim.LBFGS([theta], max_iter=2)
    far = torch.arange(1.0, n + 1, dtype=torch.float64)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (far * (theta - 1) ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer


def cosine(t: int) -> float:
    return 0.02 * (1 + math.cos(math.pi * min(t, 200) / 200))


def linear(t: int) -> float:
    return 0.04 * max(0.0, 1 - t / 200)


def table(t: int) -> float:
    return [0.5, 0.25, 0.1, 0.05][t] if t < 4 else 0.0


def geometric(first: float, ratio: float) -> Callable[[int], float]:
    return lambda t: first * ratio**t


def scheduled(name: str, schedule: Callable[[int], float]) -> Family:
    return Family(name, EpochAdam(schedule=schedule), one, "unsolved", schedules=[schedule])


def of_torch(name: str, made: Any, **options: Any) -> Family:
    return Family(f"torch {name}", made, equations(2, 5), **options)


FAR = 1e12
p = functools.partial
FAMILIES = [
    # Mirror descent.
    Family(
        "primal momentum, entropy",
        MirrorDescent(Entropy(), momentum=0.7),
        equations(2, 6, absolute=True),
        schedules=[0.02, 0.008],
        steps=3000,
    ),
    Family("primal momentum, p = 3", MirrorDescent(PNorm(3), momentum=0.9), equations(2, 6), theta0=0.5),
    Family("primal momentum, hypentropy", MirrorDescent(Hypentropy(0.1), momentum=0.9), equations(2, 6)),
    Family("mirror, contradicting", MirrorDescent(PNorm(3)), contradicting(3, 5), "claim only", theta0=0.5),
    Family("mirror, contradicting rows", MirrorDescent(Hypentropy(1.0), batch_size=1), contradicting(3, 5)),
    Family("entropy, no positive solution", MirrorDescent(Entropy()), no_positive_solution, "unsolved"),
    Family("mirror, nearly dependent", MirrorDescent(Entropy()), nearly_dependent, "claim only"),
    Family("mirror, other margins", MirrorDescent(Hypentropy(1.0)), separable, "unsolved", "logistic"),
    # Signs.
    Family("signs, several equations", SignDescent(), equations(3, 6)),
    Family("signs, minibatches", SignDescent(batch_size=2), equations(4, 7)),
    Family("signs, rows of equal signs", SignDescent(batch_size=1), equations(2, 5, absolute=True), "unsolved"),
    Family("signs, rows that run away", SignDescent(batch_size=1), runaway, "unsolved"),
    Family("signs, contradicting rows", SignDescent(batch_size=1), contradicting(3, 4), "unsolved"),
    Family("signs, contradicting", SignDescent(), contradicting(4, 3), "claim only"),
    Family("signs, one contradicting equation", SignDescent(batch_size=1), contradicting_one, "unsolved"),
    Family("signs, a huge start", SignDescent(batch_size=1), contradicting_one, "claim only", theta0=FAR),
    Family("signs, inseparable", SignDescent(), opposite, "apart", "logistic"),
    Family("signs, separable in part", SignDescent(), separable_in_part, "unsolved", "logistic"),
    Family("signs, tied margins", SignDescent(), tied_largest_entry, "claim only", "exponential"),
    Family("signs, minibatches of labels", SignDescent(batch_size=2), separable, "claim only", "logistic"),
    # Epochs.
    Family("epochs, several equations", EpochAdam(), equations(3, 6)),
    Family("epochs, several equations in minibatches", EpochAdam(batch_size=1), equations(3, 6)),
    Family(
        "epochs, one equation in minibatches",
        EpochAdam(batch_size=1),
        repeated,
        "unsolved",
        schedules=[lambda t: 0.3 / math.sqrt(t + 1)],
        steps=4000,
    ),
    Family("epochs, eps", EpochAdam(eps=0.1), one, schedules=[0.3, 0.05], steps=1000),
    Family("epochs, contradicting", EpochAdam(), contradicting(4, 3), "claim only"),
    Family("epochs, inseparable", EpochAdam(), opposite, "apart", "exponential"),
    Family("epochs, minibatches of labels", EpochAdam(batch_size=1), separable, "claim only", "logistic"),
    scheduled("constant steps", lambda _t: 0.01),
    scheduled("steps of too small a sum", geometric(0.05, 0.9)),
    scheduled("steps of too short a tail", geometric(0.9, 0.4)),
    scheduled("a cosine to 0", cosine),
    scheduled("a line to 0", linear),
    scheduled("a table that ends", table),
    scheduled("a floor", lambda t: max(0.2 * 0.98**t, 0.007)),
    scheduled("a floor far below the steps of its time", lambda t: 0.01 + (t + 1) ** -0.1),
    scheduled("a floor under a logarithm", lambda t: 0.01 + 1 / math.log(t + 3)),
    # Linear rules.
    Family("rows, contradicting", GradientDescent(batch_size=1), contradicting(3, 5)),
    Family(
        "rows, contradicting beside a huge target",
        GradientDescent(batch_size=1),
        contradicting(3, 5, 1e13),
        "claim only",
    ),
    Family("rows, contradicting, heavy ball", GradientDescent(momentum=0.5, batch_size=2), contradicting(4, 5)),
    Family(
        "rows, contradicting, far away", GradientDescent(batch_size=1), contradicting(3, 5), "claim only", theta0=FAR
    ),
    Family("nearly dependent", GradientDescent(), nearly_dependent, "claim only"),
    Family("rows, inseparable", GradientDescent(batch_size=1), opposite, "apart", "logistic"),
    Family("separable in part", GradientDescent(), separable_in_part, "unsolved", "logistic"),
    Family("hardly separable in part", GradientDescent(), hardly_separable_in_part, "claim only", "logistic"),
    Family("nesterov, separable", GradientDescent(momentum=0.9, nesterov=True), separable, "claim only", "logistic"),
    # Norms.
    Family("L1, several equations", NormSteepest(L1(), "constrained"), equations(3, 6)),
    Family("Lp, several equations", NormSteepest(Lp(4)), equations(3, 6)),
    Family("spectral, several equations", NormSteepest(Spectral(), "constrained", (2, 3)), equations(3, 6), steps=120),
    Family("nuclear, several equations", NormSteepest(Nuclear(), "constrained", (2, 3)), equations(3, 6), steps=120),
    Family("L1, a tied equation", NormSteepest(L1()), tied_sum, "claim only"),
    Family("L1, tied margins", NormSteepest(L1()), tied_sum, "claim only", "exponential"),
    Family("largest entry, tied margins", NormSteepest(LInf()), tied_largest_entry, "claim only", "logistic"),
    Family("L1, inseparable", NormSteepest(L1()), opposite, "claim only", "logistic"),
    Family("L1, contradicting", NormSteepest(L1(), "constrained"), contradicting(4, 3), "claim only"),
    # Torch.
    of_torch("Adam", optim.Adam),
    of_torch("Adam without eps", p(optim.Adam, eps=0)),
    of_torch("Adam with amsgrad", p(optim.Adam, amsgrad=True)),
    of_torch("AdamW", optim.AdamW),
    of_torch("AdamW without decay", p(optim.AdamW, weight_decay=0)),
    of_torch("NAdam", optim.NAdam),
    of_torch("RAdam", optim.RAdam),
    of_torch("Adamax", optim.Adamax),
    of_torch("RMSprop", optim.RMSprop),
    of_torch("Adagrad", optim.Adagrad),
    of_torch("Adadelta", optim.Adadelta),
    of_torch("Adafactor", optim.Adafactor),
    of_torch("Rprop", optim.Rprop),
    of_torch("ASGD", p(optim.ASGD, lambd=0.1), fails="unsolved"),
    of_torch("Muon", p(optim.Muon, weight_decay=0)),
    of_torch("SGD with decay", p(optim.SGD, weight_decay=0.1), fails="unsolved"),
    of_torch("SGD that climbs", p(optim.SGD, maximize=True), fails="unsolved"),
    of_torch("SGD that does not move", p(optim.SGD, lr=0.0), fails="claim only"),
    of_torch("SGD with two momenta", Made(two_momenta)),
    of_torch("SGD of somebody's own", Unheard, fails="claim only"),
    of_torch("LBFGS with a past", Made(lbfgs_with_a_past), schedules=[1.0, 0.3], steps=30),
    Family(
        "torch SGD nesterov, separable", p(optim.SGD, momentum=0.9, nesterov=True), separable, "claim only", "logistic"
    ),
    Family("torch LBFGS, separable", optim.LBFGS, separable, "claim only", "logistic", steps=10),
    Family("torch Adam, separable", optim.Adam, separable, "claim only", "exponential"),
]
BY_NAME = pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])


@BY_NAME
def test_nothing_is_claimed_and_a_sentence_says_why(family):
    for seed in range(2):
        rule, A, b, theta0 = family.instance(seed)
        prediction = predict(rule, A, b, theta0, family.loss)
        assert prediction.determined is False
        assert prediction.certificate.passed is False
        assert prediction.point is None
        assert prediction.direction is None
        assert re.fullmatch(r"[\w'].{20,}\.", prediction.reason), prediction.reason


def runs_fail(family: Family, seed: int) -> None:
    """Run the rule: no end is certified, and the claim that there is one limit fails."""
    rule, A, b, theta0 = family.instance(seed)
    prediction = predict(rule, A, b, theta0, family.loss)
    # The largest of the rule's own steps and a tenth of it.
    schedules = family.schedules or prediction.rule.schedules(prediction.problem, family.steps)[::3]
    spread = prediction.spread(schedules, steps=family.steps, seeds=3)
    ends = spread.simulation.point
    for end in ends[ends.isfinite().all(dim=1)][:3]:
        start = prediction.problem.theta0
        assert not certify(rule, A, b, end, start, family.loss, tolerance=0.1).passed
    if family.fails == "apart":
        assert spread.distance > 1e-3 * float(spread.points.norm(dim=1).max())
    elif family.fails == "unsolved":
        assert not bool(spread.simulation.converged.any())
        # A cycle may be near the solution now and then.
        assert bool((spread.simulation.losses[-8:].amax(dim=0) > 1e-12).all())


@BY_NAME
def test_the_ends_of_actual_runs_are_not_certified_and_the_claim_fails(family):
    runs_fail(family, 0)


@pytest.mark.slow
@BY_NAME
def test_the_ends_of_other_runs_are_not_certified_either(family):
    runs_fail(family, 1)
