"""A task of your own: a small residual convolutional network on scikit-learn's digits.

Run it with: steepest compare --task examples.own_task:task
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from steepest.tasks import Task, accuracy


class ConvNet(nn.Module):
    """Two convolutions around a residual connection, pooled into a linear classifier."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels)
        self.last = nn.Linear(4 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n x 1 x 8 x 8) to logits (n x 10)."""
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.norm(self.second(x)))
        return self.last(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


pixels, labels = load_digits(return_X_y=True)
x = torch.tensor(pixels).float().view(-1, 1, 8, 8) / 16
y = torch.tensor(labels)

task = Task(
    name="convnet",
    model=ConvNet,
    loss=nn.functional.cross_entropy,
    train=(x[:1400], y[:1400]),
    valid=(x[1400:], y[1400:]),
    metric=accuracy,
    batch_size=64,
    steps=150,
)
