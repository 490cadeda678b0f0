"""The loss of a batch in training and in validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from steepest.errors import TaskError
from steepest.tasks._batch import call, target_of

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """The losses of a task: a function of output and target, or of model and batch; without both, the model's own."""

    loss: Callable[[Any, Any], Any] | None
    batch_loss: Callable[[nn.Module, Any], Any] | None
    valid_loss: Callable[[Any, Any], Any] | None

    @property
    def in_model(self) -> bool:
        """Whether the model returns its loss, and is called with the whole batch."""
        return self.loss is None and self.batch_loss is None

    def training(self, model: nn.Module, batch: Any) -> Any:
        """Return the training loss of a batch."""
        if self.batch_loss is not None:
            return self.batch_loss(model, batch)
        return self._of(self.output(model, batch), batch)

    def validation(self, model: nn.Module, batch: Any, *, needs_output: bool) -> tuple[Any, Any]:
        """Return the validation loss of a batch, and the model's output where it is needed."""
        if self.batch_loss is not None and self.valid_loss is None:
            value = self.batch_loss(model, batch)
            return value, self.output(model, batch) if needs_output else None
        output = self.output(model, batch)
        value = self._of(output, batch) if self.valid_loss is None else self.valid_loss(output, target_of(batch))
        return value, output

    def output(self, model: nn.Module, batch: Any) -> Any:
        """Return the model's output for a batch."""
        return call(model, batch, whole=self.in_model)

    def _of(self, output: Any, batch: Any) -> Any:
        return _own_loss(output) if self.loss is None else self.loss(output, target_of(batch))


def _own_loss(output: Any) -> Any:
    """Return the loss that a model has put into its output.

    Raises:
        TaskError: If there is none.
    """
    rule = "a model must return its loss, as output.loss or output['loss'], where the task is given none"
    try:
        found = cast("Mapping[str, Any]", output)["loss"] if isinstance(output, Mapping) else output.loss
    except (KeyError, AttributeError):
        remedy = "Pass loss=, for example torch.nn.functional.cross_entropy, or batch_loss= to the Task."
        raise TaskError(rule, got=f"an output of type {type(output).__name__}", remedy=remedy) from None
    if found is None:
        remedy = "Give each batch what the model computes it from, for example labels."
        raise TaskError(rule, got="a loss that is None", remedy=remedy)
    return found
