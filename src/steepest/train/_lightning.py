"""A callback with which a Lightning training reports to a trial."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from steepest._check import instance
from steepest.errors import InvalidArgument, MissingExtra
from steepest.train._trial import Trial

__all__ = ["lightning_callback"]

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")  # two names of the same library, which do not mix


def lightning_callback(trial: Trial, loss: str = "val_loss") -> Any:
    """Return a Lightning `Callback` that reports after each validation: the loss, and all other logged metrics.

    Pass it as Trainer(callbacks=[lightning_callback(trial)]), and let `configure_optimizers` return
    trial.optimizer(self). A check of the validation before training does not count, and of several validations after
    the same step the first does.

    Args:
        trial: The trial of this run.
        loss: The name under which the module logs its validation loss.

    Raises:
        InvalidArgument: If it is no trial, or the name no string; in the training, if no loss of this name was logged.
        MissingExtra: If Lightning is not installed.
    """
    instance("trial", trial, Trial, "the trial that the program is given")
    instance("loss", loss, str, "the name of a logged metric")
    callback_class = _callback_class()

    class Reports(callback_class):
        """Reports after each validation."""

        def __init__(self) -> None:
            self.last = -1

        def __reduce__(self) -> tuple[object, ...]:
            return lightning_callback, (trial, loss)

        def on_validation_end(self, trainer: Any, _module: Any) -> None:
            """Report what the validation has logged."""
            step = int(trainer.global_step)
            if trainer.sanity_checking or step == self.last:
                return
            logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
            if loss not in logged:
                raise InvalidArgument(
                    "loss must be the name of a metric that the validation logs",
                    got=loss,
                    remedy=f"It logs {', '.join(logged) or 'nothing'}. Call self.log in validation_step.",
                )
            self.last = step
            trial.report(step, loss=logged.pop(loss), **logged)

    return Reports()


def _callback_class() -> Any:
    """Return the class of callbacks of the Lightning that the program has imported, or that is installed."""
    for name in sorted(_PACKAGES, key=lambda each: each not in sys.modules):
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise MissingExtra(
        "lightning_callback needs Lightning, which is not installed", remedy="Run pip install lightning."
    )
