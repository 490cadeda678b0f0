"""An observer of how a run changes the tangent features of its network."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from steepest.features._examples import first_examples, outputs_of
from steepest.linearize import FeatureChange, Linearization
from steepest.train import Event, Start, Validated

__all__ = ["FeatureObserver"]

_ROWS, _PARAMETERS = 500, 20_000_000


class FeatureObserver:
    """Linearises a network in float64 at the start and at the end of a run, at the first training examples.

    It is an observer of `steepest.train.train`. With `observers={"features": FeatureObserver}`, a trial makes one for
    the first final run of every alternative. A trial must not end because a model cannot be linearised: the error's
    text is kept as the reason.

    Attributes:
        change: How the tangent features changed, or why that is unknown; None until the run has ended.
    """

    def __init__(self) -> None:
        self._begun: Start | None = None
        self._start: Linearization | None = None
        self.change: FeatureChange | str | None = None

    def __call__(self, event: Event) -> None:
        """Linearise the model, if this is the start or the end of the run."""
        if isinstance(event, Start):
            self._begun = event
        if not isinstance(event, Validated) or self._begun is None or not math.isfinite(event.loss):
            return
        if (event.step == 0 or event.is_last) and self.change is None:
            try:
                self._look(event.model, self._begun)
            except Exception as error:  # a model's own code may raise anything
                lines = str(error).splitlines() or [type(error).__name__]
                self.change = lines[0]

    def found(self) -> dict[str, Any] | str:
        """Return the change of the tangent features as plain JSON, or the reason why it is unknown."""
        if isinstance(self.change, FeatureChange):
            return dataclasses.asdict(self.change)
        return self.change or "the run diverged"

    def _look(self, model: nn.Module, begun: Start) -> None:
        device = next(model.parameters()).device
        count = sum(parameter.numel() for parameter in model.parameters())
        if count > _PARAMETERS:  # a copy in float64 would take much memory
            self.change = f"the network has {count:,} parameters, and at most {_PARAMETERS:,} are linearised"
            return
        if self._start is None:
            outputs = outputs_of(model, begun.task)
            if outputs > _ROWS:
                self.change = f"an example has {outputs:,} outputs, and at most {_ROWS:,} are linearised"
                return
            self._start = _in_float64(model, first_examples(begun.task, _ROWS // outputs), device)
            self._start.svd()
            return
        self.change = FeatureChange.of(
            self._start, _in_float64(model, first_examples(begun.task, self._start.examples), device)
        )
        self._start = None


def _in_float64(model: nn.Module, examples: tuple[Tensor, ...], device: torch.device) -> Linearization:
    return Linearization(model, tuple(tensor.to(device) for tensor in examples[:-1]), dtype=torch.float64)
