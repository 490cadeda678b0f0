"""Gradient norms of a run whose gradients do not come from backpropagation."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from steepest.train._events import Event, Start, Step

__all__ = ["Norms"]


class Norms:
    """An observer that records losses and gradient norms about as often as the model is validated.

    It takes the place of a monitor, which watches the backward pass; there is no diagnosis without one.
    """

    def __init__(self) -> None:
        self._every = 1
        self._named: dict[str, nn.Parameter] = {}
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []

    def __call__(self, event: Event) -> None:
        """Take note of the parameters at the start, and of their gradients at a step."""
        if isinstance(event, Start):
            self._every = math.ceil(event.steps / event.validations)
            self._named = {name: each for name, each in event.model.named_parameters() if each.requires_grad}
        elif isinstance(event, Step) and event.step % self._every == 0:
            gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in self._named.values()]
            self._steps.append(event.step)
            self._losses.append(event.loss)
            self._norms.append(torch.stack([torch.linalg.vector_norm(each).float() for each in gradients]))

    def paused(self) -> AbstractContextManager[None]:
        """Return a context in which others may do with the model what they like."""
        return contextlib.nullcontext()

    def found(self) -> dict[str, Any]:
        """Return the recorded data, as fields of a `History`."""
        rows = [each.tolist() for each in self._norms]
        return {
            "gradient_steps": self._steps,
            "train_loss": [float(each) for each in self._losses],
            "mean_gradient_norm": [sum(row) / len(row) for row in rows],
            "gradient_norm": {name: [row[i] for row in rows] for i, name in enumerate(self._named)},
        }
