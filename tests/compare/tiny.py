"""A task that trains in milliseconds."""

import torch
from torch import nn

from steepest.tasks import Task, accuracy


def tiny_task(**options):
    """Three blobs of 96 points in four dimensions under a linear model."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(144) % 3
    x = torch.randn(144, 4, generator=generator) + 1.5 * torch.eye(4)[labels]
    given = {
        "name": "tiny",
        "model": lambda: nn.Linear(4, 3),
        "loss": nn.functional.cross_entropy,
        "train": (x[:96], labels[:96]),
        "valid": (x[96:], labels[96:]),
        "metric": accuracy,
        "batch_size": 16,
        "steps": 12,
    }
    return Task(**{**given, **options})
