"""The score-function estimator, also known as the policy gradient, REINFORCE, or evolution strategies."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from steepest import _check
from steepest.errors import InvalidArgument
from steepest.estimators._baseline import Baseline, Controlled, check_baseline, halves, least_samples, weights
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._objective import Objective, evaluate
from steepest.estimators._perturbation import Perturbation, drawing
from steepest.estimators._replay import Replay, replays
from steepest.estimators._space import Space
from steepest.estimators._values import Worst, all_finite, check_worst, mean_error

__all__ = ["ScoreFunction"]


class ScoreFunction:
    """The gradient of F(x) = E f(x + sigma e), e ~ q, from values of f alone.

    grad F(x) = E[(f(x + sigma e) - b) s(e)] / sigma with the score s(e) = -d log q(e) / de, which is e for the standard
    normal q. It needs no derivative of f, which may be discontinuous. All baselines b leave it unbiased.

    Args:
        sigma: The scale of the perturbation, > 0, in the units of x.
        samples: Evaluations of f, >= 1; even for antithetic pairs.
        antithetic: Whether samples are pairs x + sigma e, x - sigma e (around the centre of q), which removes the even
            part of f from the variance; q must be symmetric.
        baseline: "leave-one-out" subtracts the mean of the other samples (of pairs, where it cancels, nothing);
            "control-variate" also a linear model of f that is fitted to the other half of the samples, which helps
            where there are more samples (of pairs: more pairs) than dimensions; None subtracts nothing.
        distribution: q: single numbers, drawn for every entry of x, or of the shape of x; None for the standard normal.
        worst: Which value stands for one that is NaN or infinite: the "largest" finite one, for an objective that is
            minimised, or the "smallest".

    Raises:
        InvalidArgument: If an argument is outside its range, there are too few samples for the baseline, or q has no
            density that is positive and differentiable on all real numbers.

    Source: Williams 1992, doi:10.1007/BF00992696; for networks Salimans et al. 2017, arXiv:1703.03864; leave-one-out
    Kool, van Hoof and Welling 2019; a survey Mohamed et al. 2020, arXiv:1906.10652.

    >>> source = ScoreFunction(sigma=0.1, samples=200)
    >>> estimate = source(lambda x: -(x - 1).square().sum(-1), torch.zeros(2), torch.Generator().manual_seed(0))
    >>> bool(((estimate.gradient - 2).abs() < 4 * estimate.standard_error).all()), estimate.evaluations
    (True, 200)
    """

    needs_autograd: ClassVar[bool] = False

    def __init__(
        self,
        sigma: float,
        samples: int,
        antithetic: bool = True,
        baseline: Baseline = "leave-one-out",
        distribution: Distribution | None = None,
        worst: Worst = "largest",
    ) -> None:
        remedy = "Pass sigma > 0; without a perturbation, use Backprop() or FiniteDifference(delta)."
        self.sigma = _check.in_range("sigma", sigma, "(0, inf)", remedy=remedy)
        self.antithetic = _check.boolean("antithetic", antithetic)
        self.baseline: Baseline = check_baseline(baseline)
        self.samples = _check.at_least("samples", samples, 1)
        fewest = least_samples(self.baseline, antithetic=self.antithetic)
        what = f"for {'antithetic pairs with ' if self.antithetic else ''}baseline={self.baseline!r}"
        if self.samples < fewest:
            raise InvalidArgument(
                f"samples must be at least {fewest} {what}", got=samples, remedy=f"Pass samples={fewest} or more."
            )
        if self.antithetic and self.samples % 2:
            raise InvalidArgument(
                "samples must be even for antithetic pairs",
                got=samples,
                remedy=f"Pass {self.samples + 1}, or antithetic=False.",
            )
        self.worst: Worst = check_worst(worst)
        self.distribution, self._perturbation = distribution, Perturbation(distribution)
        self._perturbation.require_score()
        if self.antithetic:
            self._perturbation.require_symmetry()

    def __call__(self, objective: Objective, x: Point, generator: Generator | None = None) -> Estimate:
        """Return the estimate; see `GradientSource`."""
        directions = self.samples // 2 if self.antithetic else self.samples
        if replays(x, directions):
            return self._replayed(objective, x, generator)
        space = Space(x)
        noise = self._perturbation.draw(directions, space.flat, drawing(generator, space.device), space.shape)
        values = evaluate(objective, space, self._points(space.flat, noise))
        used, value = all_finite(values, self.worst)
        weighted = weights(used, antithetic=self.antithetic, baseline=self.baseline)
        if weighted.dtype is not noise.dtype:
            weighted = weighted.to(noise.dtype)
        score = self._perturbation.score(noise)
        if self.baseline == "control-variate":
            controlled = Controlled(weighted, noise, score, antithetic=self.antithetic)
            gradient = controlled.terms.mean(0).div_(self.sigma)
            return Estimate(
                value, space.point(gradient), lambda: space.point(controlled.error() / self.sigma), self.samples, values
            )
        gradient = torch.addmv(space.flat, score.t(), weighted, beta=0, alpha=1 / (directions * self.sigma))

        def error() -> Point:
            return space.point(mean_error(weighted[:, None] * score / self.sigma))

        return Estimate(value, space.point(gradient), error, self.samples, values)

    def _points(self, flat: Tensor, noise: Tensor) -> Tensor:
        if not self.antithetic:
            return torch.add(flat, noise, alpha=self.sigma)
        if centre := self._perturbation.centre:
            return torch.add(flat, torch.cat((noise, 2 * centre - noise)), alpha=self.sigma)
        members = halves(flat.dtype, flat.device).view(2, 1, 1)
        return torch.addcmul(flat, members, noise, value=2 * self.sigma).view(-1, noise.shape[-1])

    def _replayed(self, objective: Objective, x: Any, generator: Generator | None) -> Estimate:
        """Return the estimate without storing the perturbations."""
        if self.baseline == "control-variate":
            raise InvalidArgument(
                "baseline must be None or leave-one-out for so many parameters, whose perturbations are not stored",
                got=self.baseline,
                remedy='Pass baseline="leave-one-out".',
            )
        directions = self.samples // 2 if self.antithetic else self.samples
        replay = Replay(x, self._perturbation, self.sigma, generator, directions)
        values = replay.values(objective, antithetic=self.antithetic)
        used, value = all_finite(values, self.worst)
        weighted = weights(used, antithetic=self.antithetic, baseline=self.baseline)
        gradient, error = replay.combined((weighted / self.sigma).tolist())
        return Estimate(value, gradient, error, self.samples, values)

    def evaluations(self, x: Point) -> int:  # noqa: ARG002
        """Return the number of evaluations that one call at x spends."""
        return self.samples

    def __repr__(self) -> str:
        options = f"antithetic={self.antithetic}, baseline={self.baseline!r}, distribution={self._perturbation!r}"
        return f"ScoreFunction(sigma={self.sigma:g}, samples={self.samples}, {options}, worst={self.worst!r})"
