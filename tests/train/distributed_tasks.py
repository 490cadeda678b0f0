"""Small tasks that workers train, importable by their processes."""

import time

import torch
from torch import nn

from steepest.tasks import Task

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(61, 5, generator=GENERATOR, dtype=torch.float64)
Y = X @ torch.randn(5, 2, generator=GENERATOR, dtype=torch.float64) + 1


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)).double()


def normalised() -> nn.Module:
    """A network with statistics, noise, and a parameter that nothing uses."""
    layers = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
    network = nn.Sequential(*layers).double()
    network.register_parameter("unused", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    return network


def mean_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target).abs().mean()


def unhurried(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Leave time for a process to start, or to be stopped, without work for the processor."""
    time.sleep(0.02)
    return nn.functional.mse_loss(output, target)


def task(steps: int = 40, *, loss=nn.functional.mse_loss, model=network, **options) -> Task:
    return Task(
        model=model,
        loss=loss,
        train=(X, Y),
        valid=(X, Y),
        metric=mean_error,
        batch_size=13,
        steps=steps,
        validations=8,
        name="small",
        **options,
    )
