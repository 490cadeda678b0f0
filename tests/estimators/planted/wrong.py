"""Estimators with one fault each, of the kinds that libraries have shipped."""

from __future__ import annotations

import math

import torch

from steepest.estimators import Estimate, batched

__all__ = ["ByHand", "Changed", "DifferencesByHand", "PartOfTheGraph", "Stale", "flip_first", "mapped"]


def mapped(point, function):
    """A tensor, or tensors by name, with a function applied to each."""
    return {name: function(each) for name, each in point.items()} if isinstance(point, dict) else function(point)


class Changed:
    """An estimator whose estimates are changed afterwards."""

    def __init__(self, inner, *, gradient=None, error=None, value=None, evaluations=None):
        self.inner = inner
        self.change = {"gradient": gradient, "error": error, "value": value, "evaluations": evaluations}

    def __getattr__(self, name):
        if name in ("inner", "change"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __call__(self, objective, x, generator=None):
        found = self.inner(objective, x, generator)
        change = self.change
        gradient = change["gradient"](found.gradient, x) if change["gradient"] else found.gradient
        error = found.standard_error if change["error"] is None else change["error"](found.standard_error)
        value = found.value if change["value"] is None else change["value"](found, objective, x)
        evaluations = found.evaluations if change["evaluations"] is None else change["evaluations"](found.evaluations)
        return Estimate(value, gradient, error, evaluations)


def flip_first(gradient, x):
    """The gradient with the sign of its first entry changed."""

    def flipped(each):
        changed = each.clone().view(-1)
        changed[0].neg_()
        return changed.view(each.shape)

    if isinstance(gradient, dict):
        first = next(iter(gradient))
        return {**gradient, first: -gradient[first]}
    return flipped(gradient)


class Stale:
    """An estimator that draws new samples in every k-th call only."""

    def __init__(self, inner, every):
        self.inner, self.every, self.calls, self.last = inner, every, 0, 0
        self.sigma = inner.sigma

    def __call__(self, objective, x, generator=None):
        if self.calls % self.every == 0:
            self.last = int(torch.randint(2**40, (), generator=generator))
        self.calls += 1
        return self.inner(objective, x, torch.Generator().manual_seed(self.last))


class ByHand:
    """A score function as one writes it, with one mistake.

    mistake: None, "own sample", "pairs apart", "half the pairs", "no sigma", "sigma squared", "twice the step",
    "sigma squared as step", "copies", "half reused", "own seed", "global", "torchopt forward", "sum", "sample value".
    """

    def __init__(self, sigma, samples, mistake=None):
        self.sigma, self.samples, self.mistake = sigma, samples, mistake
        self.old = None

    def noise(self, count, x, generator):
        if self.mistake == "own seed":
            generator = torch.Generator().manual_seed(0)
        if self.mistake == "global":
            generator = None
        if self.mistake == "copies":
            return torch.randn((count // 5, *x.shape), generator=generator).repeat(5, *[1] * x.ndim)
        found = torch.randn((count, *x.shape), generator=generator)
        if self.mistake == "half reused":
            if self.old is not None and self.old.shape == found.shape:
                found[: count // 2] = self.old[count // 2 :]
            self.old = found
        return found

    def __call__(self, objective, x, generator=None):
        sigma, count, mistake = self.sigma, self.samples, self.mistake
        pairs = mistake in ("pairs apart", "half the pairs")
        e = self.noise(count // 2 if pairs else count, x, generator)
        if pairs:
            e = torch.cat([e, -e])
        step = {"twice the step": 2 * sigma, "sigma squared as step": sigma**2}.get(mistake, sigma)
        values = objective(x + step * e)
        evaluations, value = count, values.mean()
        if mistake == "torchopt forward":
            here = objective(x)
            weights, evaluations = (values - here) * sigma**2, count + 1
        elif mistake == "own sample":
            weights = values - values.mean()
        elif pairs:
            weights = values
        else:
            weights = (values - values.mean()) * count / (count - 1)
        scale = {"no sigma": 1.0, "sigma squared": sigma**2}.get(mistake, sigma)
        terms = weights.view(-1, *[1] * x.ndim) * e / scale
        if mistake == "half the pairs":
            both = (terms[: count // 2] + terms[count // 2 :]) / 2
            error = both.std(0) / math.sqrt(count)
        else:
            error = terms.std(0) / math.sqrt(count)
        if mistake == "sum":
            value = values.sum()
        if mistake == "sample value":
            value = values.max()
        return Estimate(value, terms.mean(0), error, evaluations)


class DifferencesByHand:
    """A finite difference along the coordinates as one writes it, with one mistake.

    mistake: None, "no two", "two for one side", "delta for sigma", "part".
    """

    def __init__(self, delta, samples=1, sigma=0.0, mistake=None):
        self.delta, self.samples, self.sigma, self.mistake = delta, samples, sigma, mistake

    def __call__(self, objective, x, generator=None):
        size, delta = x.numel(), self.delta
        base = x.expand(self.samples, size)
        if self.sigma:
            scale = delta if self.mistake == "delta for sigma" else self.sigma
            base = base + scale * torch.randn(base.shape, generator=generator)
        eye = delta * torch.eye(size)
        if self.mistake == "two for one side":
            points = torch.cat([(base[:, None] + eye).view(-1, size), base])
            values = batched(objective)(points)
            first, second = values[: -self.samples].view(-1, size), values[-self.samples :, None]
            terms = (first - second) / (2 * delta)
        else:
            points = torch.cat([(base[:, None] + eye).view(-1, size), (base[:, None] - eye).view(-1, size)])
            values = batched(objective)(points)
            first, second = values.view(2, -1, size)
            terms = (first - second) / (delta if self.mistake == "no two" else 2 * delta)
        error = terms.std(0) / math.sqrt(self.samples) if self.samples > 1 else torch.zeros(size)
        return Estimate(values.mean(), terms.mean(0), error, len(points))


class PartOfTheGraph:
    """A pathwise gradient that forgets that some entries of x depend on the parameters: a missing term."""

    needs_autograd = True

    def __init__(self, sigma, samples):
        self.sigma, self.samples = sigma, samples

    def __call__(self, objective, x, generator=None):
        given = x.detach().requires_grad_()
        mean = torch.cat([given[:1].detach(), given[1:]])
        points = mean + self.sigma * torch.randn((self.samples, *x.shape), generator=generator)
        values = objective(points)
        (gradient,) = torch.autograd.grad(values.mean(), given)
        return Estimate(values.mean().detach(), gradient, None, self.samples)
