"""A callback with which a Trainer of Transformers reports to a trial."""

from __future__ import annotations

import importlib
import numbers
from typing import Any

from steepest._check import instance
from steepest.errors import InvalidArgument, MissingExtra
from steepest.train._trial import Trial

__all__ = ["transformers_callback"]

_TIMES = ("_runtime", "_per_second", "_compilation_time", "epoch")


def transformers_callback(trial: Trial, loss: str = "eval_loss") -> Any:
    """Return a `TrainerCallback` of Transformers that reports after each evaluation: the loss, and all other metrics.

    Pass it as Trainer(callbacks=[transformers_callback(trial)]), with optimizers=(optimizer,
    trial.scheduler(optimizer, steps)) and, in the TrainingArguments, seed=trial.seed: the Trainer seeds the order of
    the data by itself, and by default always by 42. Of several evaluations after the same step the first counts.

    Args:
        trial: The trial of this run.
        loss: The name of the validation loss among the metrics of an evaluation.

    Raises:
        InvalidArgument: If it is no trial, or the name no string; in the training, if no evaluation has a loss of this
            name.
        MissingExtra: If Transformers is not installed.
    """
    instance("trial", trial, Trial, "the trial that the program is given")
    instance("loss", loss, str, "the name of a metric of the evaluation")
    try:
        callback_class: Any = importlib.import_module("transformers").TrainerCallback
    except ImportError as error:
        raise MissingExtra(
            "transformers_callback needs Transformers, which is not installed", remedy="Run pip install transformers."
        ) from error

    class Reports(callback_class):
        """Reports after each evaluation."""

        def __init__(self) -> None:
            self.last, self.seen = -1, dict[str, None]()

        def __reduce__(self) -> tuple[object, ...]:
            return transformers_callback, (trial, loss)

        def on_evaluate(self, _args: Any, state: Any, _control: Any, metrics: dict[str, Any], **_: Any) -> None:
            """Report what an evaluation has found; with several sets of data, that of the one with the loss."""
            step = int(state.global_step)
            self.seen |= dict.fromkeys(metrics)
            if loss in metrics and step != self.last:
                self.last = step
                found = {
                    name: float(value)
                    for name, value in metrics.items()
                    if isinstance(value, numbers.Real) and not name.endswith(_TIMES)
                }
                trial.report(step, loss=found.pop(loss), **found)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            """Check that the name of the loss was right."""
            if self.seen and self.last < 0:
                raise InvalidArgument(
                    "loss must be the name of a metric of the evaluation",
                    got=loss,
                    remedy=f"It has {', '.join(self.seen)}.",
                )

    return Reports()
