"""All rules on one problem, side by side."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._check import at_least
from steepest.errors import InvalidArgument
from steepest.implicit_bias._potentials import Entropy, Hypentropy, PNorm
from steepest.implicit_bias._predict import Prediction, predict
from steepest.implicit_bias._problem import ArrayLike, Problem
from steepest.implicit_bias._rules.accepted import RuleLike
from steepest.implicit_bias._rules.epoch_adam import EpochAdam
from steepest.implicit_bias._rules.gradient_descent import GradientDescent, RescaledFeatures
from steepest.implicit_bias._rules.mirror_descent import MirrorDescent
from steepest.implicit_bias._rules.norm_steepest import NormSteepest
from steepest.implicit_bias._rules.sign_descent import SignDescent
from steepest.implicit_bias._runs.spread import Spread
from steepest.implicit_bias._sensitivity import sensitivity
from steepest.norms import L1

__all__ = ["RULES", "Surveyed", "survey"]

RULES: Mapping[str, RuleLike] = {
    "gradient descent": GradientDescent(),
    "heavy ball, .9": GradientDescent(momentum=0.9),
    "epoch-preconditioned": EpochAdam(),
    "  constant steps .01": EpochAdam(schedule=lambda _t: 0.01),
    "  eps = 1e-8": EpochAdam(eps=1e-8),
    "rescaled features": RescaledFeatures(),
    "sign descent": SignDescent(),
    "sign descent, rows": SignDescent(batch_size=1),
    "steepest in L1": NormSteepest(L1()),
    "mirror, p = 1.1": MirrorDescent(PNorm(1.1)),
    "mirror, p = 3": MirrorDescent(PNorm(3)),
    "mirror, entropy": MirrorDescent(Entropy()),
    "mirror, hypentropy": MirrorDescent(Hypentropy(0.01)),
    "torch SGD, .9": functools.partial(torch.optim.SGD, momentum=0.9),
    "torch Adam": torch.optim.Adam,
    "torch AdamW": torch.optim.AdamW,
    "torch RMSprop": torch.optim.RMSprop,
    "torch Adagrad": torch.optim.Adagrad,
    "torch Adafactor": torch.optim.Adafactor,
    "torch Muon": torch.optim.Muon,
}
"""The rules of a survey, by the names under which they are shown."""


@dataclass(frozen=True, eq=False)
class Surveyed:
    """One rule of a survey.

    Attributes:
        name: The name of the rule.
        prediction: The prediction; None for a rule that cannot start at theta0.
        refusal: Why the rule cannot start at theta0; else empty.
        like: The sensitivity on data like A, where a limit is predicted.
        other: The sensitivity on data with the other scales.
        spread: Simulated runs where nothing is determined, if any were asked for.
    """

    name: str
    prediction: Prediction | None
    refusal: str
    like: Tensor | None
    other: Tensor | None
    spread: Spread | None


def survey(
    A: ArrayLike,
    b: ArrayLike,
    theta0: ArrayLike | None = None,
    loss: str = "squared",
    scales: ArrayLike | None = None,
    steps: int = 1000,
) -> list[Surveyed]:
    """Predict for all `RULES`, and simulate those of which nothing is determined.

    Args:
        A: m x n.
        b: m targets or labels.
        theta0: n starting values; by default each rule's own.
        loss: As for `predict`.
        scales: n feature scales of data of another kind; by default all 1.
        steps: The number of steps of each simulated run; 0 for no simulation.

    Raises:
        InvalidArgument: As `predict`.
    """
    at_least("steps", steps, 0)
    if scales is not None:
        sensitivity(torch.ones(Problem.checked(A, b, theta0, loss, lambda _n: None).columns), scales)
    rows: list[Surveyed] = []
    for name, rule in RULES.items():
        try:
            prediction = predict(rule, A, b, theta0, loss)
        except InvalidArgument as error:
            # The start of the others may be outside of a potential's domain; anything else is wrong for all of them.
            if not isinstance(rule, MirrorDescent) or not rows:
                raise
            rows.append(Surveyed(name, None, error.rule, None, None, None))
            continue
        like = other = None
        simulated = None
        end = prediction.point if prediction.point is not None else prediction.direction
        if end is not None:
            like = prediction.sensitivity()
            other = sensitivity(end, torch.ones_like(end) if scales is None else scales)
        elif steps:
            simulated = prediction.spread(steps=steps)
        rows.append(Surveyed(name, prediction, "", like, other, simulated))
    return rows
