"""Finite differences: along the coordinates, or along random directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from steepest import _check
from steepest.errors import InvalidArgument
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._objective import Objective, evaluate, evaluate_pieces
from steepest.estimators._perturbation import Perturbation, drawing
from steepest.estimators._replay import Replay, replays
from steepest.estimators._space import Space, tensors_by_name
from steepest.estimators._values import Worst, all_finite, check_worst, mean_error, read

__all__ = ["FiniteDifference"]

_AT_ONCE = 1 << 22
"""Numbers of points that are made at once."""


class FiniteDifference:
    """Differences of f between points that are delta apart, of f itself or of the smoothed f.

    Along the coordinates, entry k is (f(x + delta e_k) - f(x - delta e_k)) / (2 delta), with an error of
    delta^2 f''' / 6 and of rounding eps |f| / delta; forward (f(x + delta e_k) - f(x)) / delta, with delta f''/2. Along
    random directions v ~ N(0, I) it is the mean of the derivatives along v times v, from 2 evaluations each, whatever
    the dimension: unbiased but for the same errors. With sigma > 0 each sample is taken at x + sigma e, e ~ q, so that
    the gradient is that of F(x) = E f(x + sigma e).

    Args:
        delta: The step, > 0, in the units of x; None for eps^(1/3) (forward: eps^(1/2)) times the larger of 1 and
            |x_k| (along random directions: and the root mean square of x), with eps of the data type of x.
        samples: With sigma > 0 the number of perturbations; else that of random directions; >= 1.
        sigma: The scale of the perturbation, >= 0, in the units of x.
        central: Whether differences are central; else forward.
        directions: "coordinates", which costs 2 d evaluations (forward: d + 1), or "random".
        distribution: q: single numbers, drawn for every entry of x, or of the shape of x; None for the standard normal.
        worst: Which value stands for one that is NaN or infinite: the "largest" finite one, for an objective that is
            minimised, or the "smallest".

    Raises:
        InvalidArgument: If an argument is outside its range, or several samples would be the same.

    The value of an estimate is the mean of f at all its points, which for central differences differs from f(x) by
    O(delta^2). Source: Nesterov and Spokoiny 2017, doi:10.1007/s10208-015-9296-2.

    >>> source = FiniteDifference(delta=1e-3)
    >>> estimate = source(lambda x: x.prod(-1), torch.tensor([2.0, 3.0], dtype=torch.float64))
    >>> estimate.gradient.round(decimals=6).tolist(), estimate.evaluations
    ([3.0, 2.0], 4)
    """

    needs_autograd: ClassVar[bool] = False

    def __init__(
        self,
        delta: float | None = None,
        samples: int = 1,
        sigma: float = 0.0,
        central: bool = True,
        directions: Literal["coordinates", "random"] = "coordinates",
        distribution: Distribution | None = None,
        worst: Worst = "largest",
    ) -> None:
        self.delta = None if delta is None else _check.in_range("delta", delta, "(0, inf)", remedy="Try 1e-3, or None.")
        self.samples = _check.at_least("samples", samples, 1)
        self.sigma = _check.in_range("sigma", sigma, "[0, inf)")
        self.central = _check.boolean("central", central)
        self.directions = _check.one_of("directions", directions, ("coordinates", "random"))
        if self.samples > 1 and self.sigma == 0 and self.directions == "coordinates":
            raise InvalidArgument(
                "samples must be 1 for differences along the coordinates without a perturbation",
                got=samples,
                remedy='They would all be the same. Pass sigma > 0, or directions="random".',
            )
        self.worst: Worst = check_worst(worst)
        self.distribution = distribution
        self._perturbation, self._normal = Perturbation(distribution), Perturbation(None)

    def __call__(self, objective: Objective, x: Point, generator: Generator | None = None) -> Estimate:
        """Return the estimate; see `GradientSource`."""
        if self.directions == "random" and self.sigma == 0 and replays(x, self.samples):
            return self._replayed(objective, x, generator)
        space = Space(x)
        if self.sigma or self.directions == "random":
            generator = drawing(generator, space.device)
        base = space.flat[None]
        if self.sigma:
            assert generator is not None
            noise = self._perturbation.draw(self.samples, space.flat, generator, space.shape)
            base = torch.add(base, noise, alpha=self.sigma)
        if self.directions == "random":
            assert generator is not None
            return self._random(objective, space, base, generator)
        return self._coordinates(objective, space, base)

    def _coordinates(self, objective: Objective, space: Space, base: Tensor) -> Estimate:
        """Return the estimate from differences at each row of `base`, along all coordinates."""
        size, count = space.size, len(base)
        step = self.delta if self.delta is not None else self._relative(space) * base.abs().clamp(min=1)
        up = space.rounded(base + step)
        down = space.rounded(base - step) if self.central else space.rounded(base)
        if self.delta is not None and read((up == down).any()):
            raise InvalidArgument(
                "delta must be larger than the spacing of numbers at x",
                got=self.delta,
                remedy="Pass delta=None for a step that follows x, or x.double().",
            )
        each = 2 * size if self.central else size + 1

        def pieces() -> Iterator[Tensor]:
            total, at_once = count * each, max(1, _AT_ONCE // size)
            for start in range(0, total, at_once):
                index = torch.arange(start, min(total, start + at_once), device=space.device)
                sample, place = index // each, index % each
                rows = base[sample]
                column = (place % size)[:, None]
                # The last row of a forward difference is the point itself, where `down` is `base`.
                moved = torch.where(place < size, up[sample, column[:, 0]], down[sample, column[:, 0]])
                yield rows.scatter(1, column, moved[:, None])

        values = evaluate_pieces(objective, space, pieces())
        used, mean = all_finite(values, self.worst)
        used = used.view(count, each)
        lower = used[:, size:] if self.central else used[:, size:].expand(count, size)
        terms = (used[:, :size] - lower).to(base.dtype) / (up - down)

        def error() -> Point:
            return space.point(mean_error(terms) if self.sigma else torch.zeros_like(terms[0]))

        value = mean if self.central else used[:, size].mean()
        return Estimate(value, space.point(terms.mean(0)), error, len(values), values)

    def _random(self, objective: Objective, space: Space, base: Tensor, generator: Generator) -> Estimate:
        """Return the estimate from differences along one random direction per sample."""
        directions = self._normal.draw(self.samples, space.flat, generator)
        step: Any = self.delta
        if step is None:
            step = self._relative(space) * space.flat.square().mean().sqrt().clamp(min=1)
        lower = base - step * directions if self.central else base
        values = evaluate(objective, space, torch.cat((base + step * directions, lower)))
        used, mean = all_finite(values, self.worst)
        change = used[: self.samples] - used[self.samples :]
        slope = (change / (2 * step if self.central else step)).to(base.dtype)
        gradient = slope @ directions / self.samples

        def error() -> Point:
            return space.point(mean_error(slope[:, None] * directions))

        value = mean if self.central else used[self.samples :].mean()
        return Estimate(value, space.point(gradient), error, len(values), values)

    def _replayed(self, objective: Objective, x: Any, generator: Generator | None) -> Estimate:
        """Return the estimate along random directions that are not stored."""
        named = tensors_by_name(x)
        precision = max(torch.finfo(each.dtype).eps for each in named.values())
        step = precision ** (1 / 3 if self.central else 1 / 2) if self.delta is None else self.delta
        replay = Replay(x, self._normal, step, generator, self.samples)
        values = replay.values(objective, antithetic=self.central, at_x=not self.central)
        used, mean = all_finite(values, self.worst)
        change = used[: self.samples] - used[self.samples :]
        gradient, error = replay.combined((change / (2 * step if self.central else step)).tolist())
        return Estimate(mean if self.central else used[-1], gradient, error, len(values), values)

    def _relative(self, space: Space) -> float:
        return space.precision ** (1 / 3 if self.central else 1 / 2)

    def evaluations(self, x: Point) -> int:
        """Return the number of evaluations that one call at x spends."""
        if self.directions == "random":
            return 2 * self.samples if self.central or self.sigma else self.samples + 1
        size = Space(x).size
        return self.samples * (2 * size if self.central else size + 1)

    def __repr__(self) -> str:
        step = "None" if self.delta is None else f"{self.delta:g}"
        options = f"central={self.central}, directions={self.directions!r}, distribution={self._perturbation!r}"
        return (
            f"FiniteDifference(delta={step}, samples={self.samples}, sigma={self.sigma:g}, {options}, "
            f"worst={self.worst!r})"
        )
