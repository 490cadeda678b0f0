"""A Lightning module as a program that steepest compare runs: a recurrent network reads text, letter by letter.

    steepest compare --program examples/lightning_program.py:run --optimizers adamw,muon,scion

It needs `pip install lightning`. The text is the source of Python's own `argparse`: nothing to download.
"""

import argparse
import inspect
import logging
import warnings

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from steepest.train import Trial, lightning_callback

CONTEXT, STEPS = 24, 60


def windows() -> TensorDataset:
    """Return windows of the text as bytes, of `CONTEXT` characters and the one that follows."""
    text = torch.tensor(list(inspect.getsource(argparse).encode("ascii", "replace")))
    return TensorDataset(text.unfold(0, CONTEXT + 1, CONTEXT))


class Reader(lightning.LightningModule):
    """A gated recurrent network that predicts each next character."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial
        self.embed = nn.Embedding(128, 32)
        self.recur = nn.GRU(32, 64, batch_first=True)
        self.predict = nn.Linear(64, 128)
        trial.initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (n x t) to scores of the next ones (n x t x 128)."""
        return self.predict(self.recur(self.embed(x))[0])

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss of a batch of windows."""
        return nn.functional.cross_entropy(self(batch[0][:, :-1]).transpose(1, 2), batch[0][:, 1:])

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the loss of a batch of windows."""
        self.log("val_loss", self.training_step(batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> dict:
        """Return the optimizer and the schedule that are tried."""
        optimizer = self.trial.optimizer(self)
        scheduler = self.trial.scheduler(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def run(trial: Trial) -> None:
    """Train once."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    torch.manual_seed(trial.seed)
    data = windows()
    cut = len(data) * 9 // 10
    train, valid = torch.utils.data.Subset(data, range(cut)), torch.utils.data.Subset(data, range(cut, len(data)))
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    steps = trial.steps or STEPS
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        val_check_interval=max(1, steps // 3),
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        callbacks=[lightning_callback(trial)],
        **off,
    )
    model, validation = Reader(trial), DataLoader(valid, batch_size=256)
    trainer.validate(model, validation, verbose=False)  # the loss at the start
    trainer.fit(model, DataLoader(train, batch_size=32, shuffle=True), validation)
