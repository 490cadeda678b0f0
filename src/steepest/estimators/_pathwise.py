"""Gradients by backpropagation: of the objective itself, and pathwise of the smoothed objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from steepest import _check
from steepest.errors import InvalidArgument
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._objective import Objective, evaluate, failed, one_point, value_of
from steepest.estimators._perturbation import Perturbation, drawing
from steepest.estimators._replay import Replay, replays
from steepest.estimators._space import Space, tensors_by_name
from steepest.estimators._values import Worst, all_finite, check_worst, mean_error, require_some

__all__ = ["Backprop", "Pathwise"]


class Backprop:
    """The gradient of f at x by backpropagation, from one evaluation.

    >>> estimate = Backprop()(lambda x: x.square().sum(-1), torch.tensor([1.0, 2.0]))
    >>> estimate.gradient
    tensor([2., 4.])
    """

    needs_autograd: ClassVar[bool] = True

    def __call__(self, objective: Objective, x: Point, generator: Generator | None = None) -> Estimate:  # noqa: ARG002
        """Return the gradient; see `GradientSource`. It draws nothing from the generator.

        Raises:
            InvalidArgument: If the value of f does not depend on x by operations that autograd knows.
        """
        if isinstance(x, Mapping):
            value, gradient = _by_name(objective, tensors_by_name(x), ())
            zeros = {name: torch.zeros_like(each) for name, each in gradient.items()}
            return Estimate(value, gradient, zeros, 1, value[None])
        space = Space(x)
        values, terms = _by_rows(objective, space, space.flat[None])
        require_some(values)
        return Estimate(values[0], space.point(terms[0]), lambda: space.point(torch.zeros_like(terms[0])), 1, values)

    def evaluations(self, x: Point) -> int:  # noqa: ARG002
        """Return the number of evaluations that one call at x spends: one."""
        return 1

    def __repr__(self) -> str:
        return "Backprop()"


class Pathwise:
    """The gradient of F(x) = E f(x + sigma e), e ~ q, as the mean of gradients of f: the reparameterisation gradient.

    grad F(x) = E[grad f(x + sigma e)], where f is continuous and differentiable almost everywhere. Of an f with jumps
    (a quantised one) it is the gradient between the jumps, which may be zero everywhere; `audit` finds that.

    Args:
        sigma: The scale of the perturbation, >= 0, in the units of x.
        samples: Evaluations of f, >= 1; even for antithetic pairs.
        antithetic: Whether samples are pairs x + sigma e, x - sigma e (around the centre of q); q must be symmetric.
        distribution: q: single numbers, drawn for every entry of x, or of the shape of x; None for the standard normal.
            It needs no density.
        worst: Which value stands for one that is NaN or infinite: the "largest" finite one, for an objective that is
            minimised, or the "smallest". Its gradient counts as zero.

    Raises:
        InvalidArgument: If an argument is outside its range, or q is not symmetric where it must be.

    Source: Kingma and Welling 2013, arXiv:1312.6114; Rezende, Mohamed and Wierstra 2014, arXiv:1401.4082.

    >>> source = Pathwise(sigma=0.5, samples=10, antithetic=True)
    >>> estimate = source(lambda x: x.square().sum(-1), torch.ones(2), torch.Generator().manual_seed(0))
    >>> estimate.gradient
    tensor([2., 2.])
    """

    needs_autograd: ClassVar[bool] = True

    def __init__(
        self,
        sigma: float,
        samples: int,
        antithetic: bool = False,
        distribution: Distribution | None = None,
        worst: Worst = "largest",
    ) -> None:
        self.sigma = _check.in_range("sigma", sigma, "[0, inf)")
        self.samples, self.antithetic = _check.at_least("samples", samples, 1), _check.boolean("antithetic", antithetic)
        self.worst: Worst = check_worst(worst)
        self.distribution, self._perturbation = distribution, Perturbation(distribution)
        if self.antithetic:
            if self.samples % 2:
                raise InvalidArgument(
                    "samples must be even for antithetic pairs", got=samples, remedy=f"Pass {self.samples + 1}."
                )
            self._perturbation.require_symmetry()

    def __call__(self, objective: Objective, x: Point, generator: Generator | None = None) -> Estimate:
        """Return the estimate; see `GradientSource`.

        Raises:
            InvalidArgument: If the value of f does not depend on x by operations that autograd knows.
        """
        directions = self.samples // 2 if self.antithetic else self.samples
        if replays(x, directions):
            return self._replayed(objective, x, generator, directions)
        space = Space(x)
        noise = self._perturbation.draw(directions, space.flat, drawing(generator, space.device), space.shape)
        step = noise * self.sigma
        if self.antithetic:
            middle = space.flat + 2 * self.sigma * (self._perturbation.centre or 0.0)
            rows = torch.cat((space.flat + step, middle - step))
        else:
            rows = space.flat + step
        values, terms = _by_rows(objective, space, rows)
        used, value = all_finite(values, self.worst)
        if used is not values:
            terms = torch.where(values.isfinite()[:, None], terms, 0)
        if self.antithetic:
            terms = (terms[:directions] + terms[directions:]) / 2
        gradient = space.point(terms.mean(0))
        return Estimate(value, gradient, lambda: space.point(mean_error(terms)), self.samples, values)

    def _replayed(self, objective: Objective, x: Any, generator: Generator | None, directions: int) -> Estimate:
        """Return the estimate with the gradient of one sample at a time in memory, and the sums."""
        replay = Replay(x, self._perturbation, self.sigma, generator, directions)
        values: list[Tensor] = []
        mean: dict[str, Tensor] = {}
        spread: dict[str, Tensor] = {}  # sums of squared deviations from the mean, by Welford's update
        for count, points in enumerate(replay.points(antithetic=self.antithetic), start=1):
            terms: dict[str, Tensor] = {}
            for point in points:
                value, gradient = _by_name(objective, point, values)
                values.append(value)
                for name, each in gradient.items():
                    wide = each.float() if each.dtype.itemsize < 4 else each
                    share = torch.where(value.isfinite(), wide, 0).div_(2 if self.antithetic else 1)
                    terms[name] = terms[name].add_(share) if name in terms else share
            for name, term in terms.items():
                if count == 1:
                    mean[name], spread[name] = term, torch.zeros_like(term)
                    continue
                change = term - mean[name]
                mean[name].add_(change, alpha=1 / count)
                spread[name].addcmul_(change, term.sub_(mean[name]))
        dtypes = {name: each.dtype for name, each in tensors_by_name(x).items()}

        def error() -> dict[str, Tensor]:
            found = {
                name: (each / (directions - 1) / directions).sqrt() if directions > 1 else each + torch.nan
                for name, each in spread.items()
            }
            return {name: each.to(dtypes[name]) for name, each in found.items()}

        gradient = {name: each.to(dtypes[name]) for name, each in mean.items()}
        all_values = torch.stack(values)
        return Estimate(all_finite(all_values, self.worst)[1], gradient, error, self.samples, all_values)

    def evaluations(self, x: Point) -> int:  # noqa: ARG002
        """Return the number of evaluations that one call at x spends."""
        return self.samples

    def __repr__(self) -> str:
        options = f"antithetic={self.antithetic}, distribution={self._perturbation!r}, worst={self.worst!r}"
        return f"Pathwise(sigma={self.sigma:g}, samples={self.samples}, {options})"


def _by_rows(objective: Objective, space: Space, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values [n] of f at rows [n, d], and their gradients [n, d]."""
    with torch.inference_mode(False), torch.enable_grad():
        given = rows.detach().clone().requires_grad_()
        values = evaluate(objective, space, given, differentiable=True)
        _require_graph(values)
        gradient = _gradients(values.sum(), given)[0]
    return values.detach(), gradient


def _by_name(objective: Objective, x: Mapping[str, Tensor], before: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the value of f at tensors by name, and its gradient; `before` are the values of earlier calls."""
    with torch.inference_mode(False), torch.enable_grad():
        # A copy only where torch does not let the tensor itself require a gradient.
        given = {
            name: (each.clone() if each.is_inference() else each.detach()).requires_grad_() for name, each in x.items()
        }
        like = next(iter(given.values()))
        try:
            found = one_point(objective)(given)
        except Exception as error:
            values = torch.stack(list(before)) if before else like.new_empty(0)
            raise failed(error, values.detach(), None, dict(x)) from error
        value = value_of(found, like)
        _require_graph(value)
        gradients = _gradients(value, *given.values())
    return value.detach(), dict(zip(given, gradients, strict=True))


def _gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the gradient of a scalar for each input; zero for one on which it does not depend."""
    return torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)


def _require_graph(values: Tensor) -> None:
    if not values.requires_grad:
        raise InvalidArgument(
            "the objective must depend on x by operations that autograd can differentiate",
            got="values without a gradient",
            remedy="Use ScoreFunction(sigma, samples), or FiniteDifference(delta) where it has no jumps.",
        )
