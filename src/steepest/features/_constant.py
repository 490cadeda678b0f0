"""The loss of a network that says the same about every example: the scale on which a fit is judged."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from steepest._contained import contained
from steepest.features._examples import number_of_examples, spread_examples
from steepest.tasks import Task

__all__ = ["constant_loss"]

_EXAMPLES = 4096


def constant_loss(task: Task) -> float | None:
    """Return the validation loss of the best constant output; None where the task's loss has none.

    The constant minimises the loss over training examples: their mean for the mean squared error, the logarithms of the
    frequencies of the classes, up to a constant, for the cross entropy.
    """
    try:
        with contained("a task's loss"), torch.random.fork_rng(devices=[]):
            *inputs, target = spread_examples(task, min(number_of_examples(task), _EXAMPLES))
            with torch.no_grad():
                output: Tensor = task.build(0).eval()(*inputs)
            constant = _Constant(output)
            search = torch.optim.LBFGS(constant.parameters(), max_iter=100, line_search_fn="strong_wolfe")

            def closure() -> Tensor:
                search.zero_grad()
                assert task.loss is not None
                loss = task.loss(constant(*inputs), target)
                loss.backward()
                return loss

            search.step(closure)
            found = float(task.evaluate(constant, "cpu")[0])
    except Exception:  # a loss may ask for more than an output that has the model's shape
        return None
    return found if math.isfinite(found) else None


class _Constant(nn.Module):
    """A model whose output is a parameter, whatever the input."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros_like(like[:1]))

    def forward(self, *inputs: Any) -> Tensor:
        return self.value.expand(len(inputs[0]), *self.value.shape[1:])
