"""What is recorded while a model trains."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from steepest.errors import InvalidArgument

__all__ = ["Monitor"]


class Monitor:
    """Records the gradient norms of a run; a context manager around any training loop.

    The mean gradient norm of a step is (1/P) sum_p ||dL/dp||_2 over the P parameter tensors that have
    a gradient, as the course defines it. Nothing leaves the device until `history` is read.

    Args:
        model: The model that is trained.
        every: Record each `every`-th step, >= 1.

    Raises:
        InvalidArgument: If the model has no parameters, or `every` is below 1.

    >>> model = nn.Linear(2, 1)
    >>> with Monitor(model) as monitor:
    ...     loss = model(torch.ones(1, 2)).sum()
    ...     loss.backward()
    ...     monitor.record(0, loss)
    >>> monitor.history["gradient_norm"]["bias"]
    [1.0]
    """

    def __init__(self, model: nn.Module, *, every: int = 1) -> None:
        if every < 1:
            raise InvalidArgument("every must be at least 1", got=every, remedy="Pass 1 to record each step.")
        self._parameters = dict(model.named_parameters())
        if not self._parameters:
            raise InvalidArgument(
                "a model to watch has parameters",
                got=type(model).__name__,
                remedy="Pass a module with layers.",
            )
        self.every = every
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the model; what was recorded stays readable."""
        self._parameters = dict.fromkeys(self._parameters)

    def due(self, step: int) -> bool:
        """Return whether `record` will keep this step."""
        return step % self.every == 0

    @torch.no_grad()
    def record(self, step: int, loss: Tensor) -> None:
        """Record a step, after its backward pass and before the gradients are cleared."""
        if not self.due(step):
            return
        held = [(i, p.grad) for i, p in enumerate(self._parameters.values()) if p is not None and p.grad is not None]
        norms = torch.full((len(self._parameters),), math.nan, device=loss.device)
        if held:
            indices, gradients = zip(*held, strict=True)
            dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
            norms[list(indices)] = torch.stack(torch._foreach_norm(dense)).float()
        self._steps.append(step)
        self._losses.append(loss.detach())
        self._norms.append(norms)

    @property
    def history(self) -> dict[str, Any]:
        """What was recorded, as lists with one entry a recorded step.

        `step`, `loss`, `mean_gradient_norm`, and `gradient_norm`: parameter name to list, nan where
        the parameter had no gradient.
        """
        names = list(self._parameters)
        norms = torch.stack(self._norms).cpu() if self._norms else torch.empty(0, len(names))
        return {
            "step": list(self._steps),
            "loss": torch.stack(self._losses).tolist() if self._losses else [],
            "mean_gradient_norm": norms.nanmean(dim=1).tolist(),
            "gradient_norm": dict(zip(names, norms.T.tolist(), strict=True)),
        }
