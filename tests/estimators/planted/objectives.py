"""Objectives on which estimators are audited, each with a point."""

from __future__ import annotations

import torch

from steepest._objectives import multimodal, quantize

__all__ = ["OBJECTIVES"]

WEIGHTS = torch.arange(1, 11)
INPUTS = torch.linspace(-1, 1, 16)[:, None]
TARGETS = torch.sin(3 * INPUTS)


class Quadratic:
    """A quadratic function of ten numbers, whose smoothing is known."""

    def __call__(self, x):
        return ((x - 1) ** 2 * WEIGHTS).sum(-1)

    def smoothed(self, sigma):
        return lambda x: self(x) + sigma**2 * WEIGHTS.sum()


def absolute(x):
    """The sum of absolute values, which has kinks."""
    return x.abs().sum(-1)


def rosenbrock(x):
    """Rosenbrock's function, which is badly scaled."""
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def product(x):
    """A product of sines, and a slope."""
    return torch.sin(2 * x).prod(-1) + x.sum(-1)


def network(weights):
    """The mean squared error of a small network, of its weights by name."""
    return ((torch.tanh(INPUTS @ weights["first"] + weights["bias"]) @ weights["last"] - TARGETS) ** 2).mean()


def some_weights():
    """Weights of that network."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"first": (1, 4), "bias": (4,), "last": (4, 1)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


OBJECTIVES = {
    "quadratic": (Quadratic(), torch.linspace(-1, 1, 10)),
    "multimodal": (multimodal, torch.tensor([-0.3, 0.5])),
    "quantized": (quantize(multimodal), torch.tensor([-0.3, 0.5])),
    "absolute": (absolute, torch.linspace(-1, 1, 5) + 0.3),
    "rosenbrock": (rosenbrock, torch.tensor([-0.5, 0.3, 0.8, 0.2])),
    "product": (product, torch.tensor([0.3, 0.5, 0.7])),
    "network": (network, some_weights()),
}
"""By name: f, x."""
