"""The history of a run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim.optimizer import Optimizer

from steepest import _importing
from steepest._check import instance
from steepest.diagnose import CAUSES, Diagnosis
from steepest.errors import InvalidArgument
from steepest.train._events import End, Event, Start, Validated
from steepest.train._optimizer import state_bytes

__all__ = ["History", "Recorder"]


@dataclass(frozen=True, kw_only=True)
class History:
    """The record of one run: curves as lists of numbers, and costs.

    Without a monitor there is no diagnosis, and there are no gradients unless a gradient source has estimated them.

    Attributes:
        steps: The steps after which the model was validated, 0 first.
        valid_loss: Mean validation loss at `steps`; infinite once the run diverged.
        valid_metrics: Each metric at `steps`, by its name; nan once the run diverged. Empty without metrics.
        seconds: Training time in seconds up to each of `steps`, without validation; 0 first.
        duration: The time of the whole run in seconds, with set-up and validation.
        diverged: Whether the loss, a gradient or a parameter stopped being finite.
        seconds_per_step: Seconds per training step without validation, the median over intervals between validations.
        state_bytes: Size of the optimizer's tensors at the end, in bytes.
        gradient_steps: The steps at which gradients were recorded.
        train_loss: Loss of the batch at `gradient_steps`.
        mean_gradient_norm: Mean over the parameter tensors of the L2 norm of the gradient, at `gradient_steps`.
        gradient_norm: The L2 norm of the gradient of each parameter at `gradient_steps`, by name.
        diagnosis: Why the run did not train, or that it is healthy; None without a monitor.
        observations: The results of observers by name, as plain JSON.
        remarks: Sentences for the user, for example that the optimizer has its own learning rate schedule.
        evaluations: How many evaluations of the training loss were spent up to each of `steps`; by default one per
            step, as in backpropagation.
    """

    steps: list[int]
    valid_loss: list[float]
    valid_metrics: dict[str, list[float]]
    seconds: list[float]
    duration: float
    diverged: bool
    seconds_per_step: float
    state_bytes: int
    gradient_steps: list[int] = field(default_factory=list[int])
    train_loss: list[float] = field(default_factory=list[float])
    mean_gradient_norm: list[float] = field(default_factory=list[float])
    gradient_norm: dict[str, list[float]] = field(default_factory=dict[str, list[float]], repr=False)
    diagnosis: Diagnosis | None = None
    observations: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    remarks: list[str] = field(default_factory=list[str])
    evaluations: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        if not self.evaluations:  # also of a history that was stored before they were counted
            object.__setattr__(self, "evaluations", list(self.steps))

    def to_json(self) -> str:
        """Return the history as JSON text; infinities and NaN are written as `Infinity` and `NaN`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> History:
        """Return the history that `to_json` has written.

        Raises:
            InvalidArgument: If the text is not such JSON, or its curves are inconsistent.
        """
        _importing.require("History.from_json", "msgspec", extra="compare")
        import msgspec

        rule = "text must be a History as to_json writes it"
        try:
            found = msgspec.convert(json.loads(instance("text", text, str, "a string")), cls)
        except InvalidArgument:
            raise
        except (msgspec.ValidationError, RecursionError, ValueError) as error:
            raise InvalidArgument(rule, got=str(error), remedy="It may have been changed.") from error
        if wrong := found._inconsistency():
            raise InvalidArgument(rule, got=wrong, remedy="It may have been changed.")
        return found

    def _inconsistency(self) -> str | None:
        curves = self.steps, self.evaluations, self.valid_loss, self.seconds, *self.valid_metrics.values()
        if (lengths := {len(each) for each in curves}) == {0} or len(lengths) != 1:
            return "steps, evaluations, valid_loss, valid_metrics and seconds are empty or differ in length"
        if not all(a <= b for a, b in itertools.pairwise([0.0, *self.seconds])):
            return "seconds do not ascend"
        if len({len(self.gradient_steps), len(self.train_loss), len(self.mean_gradient_norm)}) != 1:
            return "gradient_steps, train_loss and mean_gradient_norm differ in length"
        if not all(a <= b for a, b in itertools.pairwise([0, *self.evaluations])):
            return "evaluations do not ascend"
        for steps in (self.steps, self.gradient_steps):
            if not all(a < b for a, b in itertools.pairwise([-1, *steps])):
                return "steps do not ascend"
        if any(len(norms) != len(self.gradient_steps) for norms in self.gradient_norm.values()):
            return "gradient_norm and gradient_steps differ in length"
        if self.seconds_per_step < 0 or self.state_bytes < 0 or self.duration < 0:
            return "a cost is negative"
        if not self.diverged and self.valid_loss[-1] == math.inf:
            return "diverged is false, and the last loss is infinite"
        if not all(loss > -math.inf for loss in self.valid_loss):
            return "valid_loss is not a number"
        if self.diagnosis is not None and self.diagnosis.cause not in CAUSES:
            return f"the cause is {self.diagnosis.cause[:60]!r}"
        return None


class Recorder:
    """The observer that records the history of a run."""

    def __init__(self) -> None:
        self._optimizer: Optimizer | None = None
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._metrics: list[Mapping[str, float]] = []
        self._evaluations: list[int] = []
        self._end: End | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Start):
            self._optimizer = event.optimizer
        elif isinstance(event, Validated):
            self._steps.append(event.step)
            self._losses.append(event.loss)
            self._metrics.append(event.metrics)
            self._evaluations.append(event.evaluations)
        elif isinstance(event, End):
            self._end = event

    def history(self, **watched: Any) -> History:
        """Return the history of a run that has ended, with the fields of other observers."""
        assert self._end is not None
        assert self._optimizer is not None
        return History(
            steps=self._steps,
            valid_loss=self._losses,
            valid_metrics={name: [each[name] for each in self._metrics] for name in self._metrics[0]},
            diverged=self._end.diverged,
            seconds_per_step=self._end.seconds_per_step,
            state_bytes=state_bytes(self._optimizer),
            evaluations=self._evaluations,
            **watched,
        )
