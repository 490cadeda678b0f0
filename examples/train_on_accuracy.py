"""A network trained on its accuracy, which has no gradient, beside the same network trained on cross-entropy.

    python examples/train_on_accuracy.py

The share of wrong answers is constant almost everywhere: its derivative is zero, and backpropagation cannot use it. The
score function needs values alone. It follows the error rate averaged over perturbed weights, E f(w + sigma e), which
is smooth; each step costs 100 evaluations of a batch. Beside it stand cross-entropy by backpropagation, and by the same
estimator, each at a learning rate (and sigma) that suits it. From a terminal:

    steepest train --task examples/train_on_accuracy.py:task --gradient score-function:sigma=0.3,samples=100
"""

import dataclasses

import torch
from torch import Tensor, nn

from steepest.compare import CANDIDATES
from steepest.estimators import ScoreFunction
from steepest.tasks import Task, digits
from steepest.train import History, train


def error_rate(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of wrong answers: 1 - accuracy."""
    return (output.argmax(dim=1) != target).float().mean()


def task() -> Task:
    """Return the digits under one hidden layer of 16 units (1,210 parameters), with the error rate as the loss."""
    return dataclasses.replace(digits(16, 1), name="accuracy", loss=error_rate, batch_size=250, steps=200)


def trained(on: Task, lr: float, gradient: ScoreFunction | None) -> History:
    """Train with Adam and a cosine schedule."""
    return train(on, CANDIDATES["adamw"].build, "he", lr=lr, seed=0, gradient=gradient)


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for a network as small as this
    on_errors = task()
    on_entropy = dataclasses.replace(on_errors, loss=nn.functional.cross_entropy)
    runs = {
        "cross-entropy, backpropagation": trained(on_entropy, 0.01, None),
        "cross-entropy, score function": trained(on_entropy, 0.03, ScoreFunction(sigma=0.1, samples=100)),
        "error rate, score function": trained(on_errors, 0.1, ScoreFunction(sigma=0.3, samples=100)),
    }
    print(f"{'trained on':32} {'before':>9} {'after':>9} {'steps':>7} {'evaluations':>12}")
    for name, found in runs.items():
        accuracy = found.valid_metrics["accuracy"]
        counts = f"{found.steps[-1]:7,} {found.evaluations[-1]:12,}"
        print(f"{name:32} {accuracy[0]:9.1%} {accuracy[-1]:9.1%} {counts}")
