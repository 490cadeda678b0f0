"""Random perturbations: how they are drawn, and the derivative of their density."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, constraints

from steepest import _check
from steepest._random import seeded
from steepest.errors import InvalidArgument

__all__ = ["Perturbation", "child", "drawing"]

_TRIED = 64
"""Samples on which the properties of a distribution are checked."""


class Perturbation:
    """Draws e for x + sigma e: standard normal, or from a distribution.

    Args:
        distribution: One of single numbers, drawn for each entry of x, or one of the shape of x; None for the normal.

    Attributes:
        centre: The centre of symmetry, 0 for the normal; None where the distribution is not symmetric.
        shape: The shape of one sample, () for single numbers.

    Raises:
        InvalidArgument: If it is no distribution.
    """

    def __init__(self, distribution: Distribution | None) -> None:
        self.distribution = distribution
        self.shape, self.centre = torch.Size(()), 0.0
        if distribution is not None:
            kind, remedy = "a torch.distributions.Distribution", "Try torch.distributions.Laplace(0.0, 1.0)."
            _check.instance("distribution", distribution, Distribution, kind, remedy=remedy)
            self.shape = distribution.batch_shape + distribution.event_shape
            self.centre = _centre(distribution)

    def draw(self, count: int, like: Tensor, generator: Generator, shape: torch.Size | None = None) -> Tensor:
        """Return samples [count, d], in the data type and on the device of `like` [d].

        Args:
            count: The number of samples.
            like: A vector.
            generator: From which they are drawn.
            shape: The shape of x, for a distribution of that shape.

        Raises:
            InvalidArgument: If the distribution has another shape.
        """
        if self.distribution is None:
            return torch.randn((count, like.numel()), generator=generator, dtype=like.dtype, device=like.device)
        if self.shape and (shape is None or self.shape != shape):
            raise InvalidArgument(
                "distribution must be one of single numbers, or have the shape of x",
                got=f"shape {tuple(self.shape)}",
                remedy="Try torch.distributions.Laplace(0.0, 1.0)."
                if shape is None
                else f"x has shape {tuple(shape)}.",
            )
        size = (count,) if self.shape else (count, like.numel())
        with seeded(child(generator), str(generator.device)):  # torch's distributions draw from the global generator
            found = self.distribution.sample(size)
        return found.reshape(count, -1).to(like)

    def score(self, noise: Tensor) -> Tensor:
        """Return -d log q(e) / de for samples [n, d]."""
        distribution = self.distribution
        if distribution is None:
            return noise
        with torch.inference_mode(False), torch.enable_grad():
            given = noise.clone().detach().requires_grad_()
            shaped = given.view(len(noise), *self.shape) if self.shape else given
            density: Any = distribution.log_prob(shaped)
            (found,) = torch.autograd.grad(density.sum(), given)
        return -found

    def require_score(self) -> None:
        """Check that the density is positive everywhere and has a derivative.

        Raises:
            InvalidArgument: If it is not, so that E[f(x + sigma e)] has no score-function gradient.
        """
        distribution = self.distribution
        if distribution is None:
            return
        rule = "distribution must have a density that is positive and differentiable on all real numbers"
        remedy = "A score function cannot move the border of a density. Use Normal, Laplace or StudentT, or Pathwise."
        if not _is_on_the_real_line(distribution):
            raise InvalidArgument(rule, got=distribution, remedy=remedy)
        try:
            score = self.score(_samples(distribution))
        except Exception as error:
            raise InvalidArgument(rule, got=f"{distribution}: {type(error).__name__}", remedy=remedy) from error
        if not score.isfinite().all() or not score.any() or not _integrates_to_one(distribution):
            raise InvalidArgument(rule, got=distribution, remedy=remedy)

    def require_symmetry(self) -> None:
        """Check that antithetic pairs have the same distribution.

        Raises:
            InvalidArgument: If they have not.
        """
        if self.centre is None:
            raise InvalidArgument(
                "distribution must be symmetric for antithetic pairs",
                got=self.distribution,
                remedy="Pass antithetic=False, or a symmetric distribution.",
            )

    def __repr__(self) -> str:
        return "None" if self.distribution is None else repr(self.distribution)


def child(generator: Generator) -> int:
    """Return a seed that is drawn from a generator."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def drawing(generator: Any, device: torch.device) -> Generator:
    """Return the generator of a source that draws samples, on the device of x.

    Raises:
        InvalidArgument: If it is none, or on another device.
    """
    remedy = "Pass torch.Generator(x.device).manual_seed(0), and the same object again in the next step."
    found = _check.instance("generator", generator, Generator, "a torch.Generator", remedy=remedy)
    if found.device.type != device.type:
        raise InvalidArgument("generator must be on the device of x", got=f"{found.device}, x {device}", remedy=remedy)
    return found


def _samples(distribution: Distribution) -> Tensor:
    with seeded(0):
        return distribution.sample((_TRIED,)).double().cpu().reshape(_TRIED, -1)


def _centre(distribution: Distribution) -> float | None:
    """Return the centre of symmetry of a distribution; None if it has none, or not the same one in all entries."""
    for name in ("mean", "loc", "mode"):  # the mean of a Cauchy distribution is nan
        try:
            centre = getattr(distribution, name)
        except (AttributeError, NotImplementedError):
            continue
        if centre.isfinite().all() and (centre == centre.reshape(-1)[0]).all():
            break
    else:
        try:
            centre = distribution.icdf(torch.tensor(0.5))
        except (AttributeError, NotImplementedError, TypeError):
            return None
    centre = float(centre.reshape(-1)[0])
    try:
        with seeded(0):
            found = distribution.sample((_TRIED,))
        one: Any = distribution.log_prob(found)
        other: Any = distribution.log_prob(2 * centre - found)
    except (NotImplementedError, ValueError):  # no density, or none outside of its support
        return None
    return centre if torch.allclose(one, other, rtol=1e-4, atol=1e-4) else None


def _integrates_to_one(distribution: Distribution) -> bool:
    """Return whether a density of single numbers is one on the real line, and not, say, that of an angle."""
    if distribution.batch_shape or distribution.event_shape:
        return True
    samples = _samples(distribution)
    reach = 30 * float((samples - samples.median()).abs().median())
    grid = torch.linspace(-reach, reach, 2001, dtype=torch.float64) + samples.median()
    density: Any = distribution.log_prob(grid)
    return abs(float(torch.trapezoid(density.exp(), grid)) - 1) < 0.1


def _is_on_the_real_line(distribution: Distribution) -> bool:
    try:
        support: Any = distribution.support
    except (NotImplementedError, AttributeError):
        return False
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support is constraints.real or isinstance(support, type(constraints.real))
