"""A small task, runs of it, and a gradient source of one's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest.estimators import Estimate, ScoreFunction
from steepest.tasks import Task
from steepest.train import History, train

SCORE = ScoreFunction(sigma=0.1, samples=20)


def error_rate(output: Tensor, target: Tensor) -> Tensor:
    """The share of wrong answers, which has no gradient."""
    return (output.argmax(dim=1) != target).float().mean()


def blobs(**changes) -> Task:
    """Three classes of points in four dimensions."""
    labels = torch.arange(96) % 3
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(0)) + 1.5 * torch.eye(4)[labels]
    given = {
        "model": lambda: nn.Linear(4, 3),
        "loss": nn.functional.cross_entropy,
        "train": (x, labels),
        "valid": (x[:30], labels[:30]),
        "metric": error_rate,
        "batch_size": 16,
        "steps": 12,
        "validations": 4,
    }
    return Task(**{**given, **changes})


def sgd(model: nn.Module, lr: float) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def run(task: Task | None = None, gradient=SCORE, optimizer=sgd, *, lr=0.1, seed=0, **options) -> History:
    return train(task or blobs(), optimizer, "default", lr=lr, seed=seed, gradient=gradient, **options)


class Own:
    """A source of one's own, which looks at what it is given; the cost of a call may grow from call to call."""

    def __init__(self, evaluations: int = 3, *, grows: int = 0) -> None:
        self.count, self.grows = evaluations, grows
        self.values: list[list[float]] = []
        self.names: list[str] = []
        self.tracks: list[bool] = []

    def __call__(self, objective, x, generator=None) -> Estimate:  # noqa: ARG002
        self.names = list(x)
        self.tracks.append(any(each.requires_grad for each in x.values()))
        values = torch.stack([objective(dict(x)).detach() for _ in range(self.count)])
        self.values.append(values.tolist())
        spent, self.count = self.count, self.count + self.grows
        gradient = {name: torch.full_like(each, 0.01) for name, each in x.items()}
        return Estimate(values.mean(), gradient, evaluations=spent, values=values)
