"""A Lightning training that says what is wrong with it; `MonitorCallback` is there to be copied.

    python examples/lightning_monitor.py [--fault zero | --fault frozen] [--out monitor.html]

It needs `pip install lightning`. The images are scikit-learn's digits, so there is nothing to download.
"""

import argparse
import contextlib

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from steepest.diagnose import Monitor
from steepest.init import initialize


class MonitorCallback(lightning.Callback):
    """Watches a training; its `monitor` is there from the start of the training on, and after it."""

    def __init__(self) -> None:
        self.hooks = contextlib.ExitStack()

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Begin, now that the weights are on their device and the optimizers are made."""
        self.monitor = self.hooks.enter_context(Monitor(module, trainer.optimizers))
        self.steps, self.loss = trainer.global_step, 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, _: object, outputs: dict, batch: list, *__: int) -> None:
        """Tell the monitor, which has seen the step itself, the step's number, loss and target."""
        self.loss += outputs["loss"]  # already divided by accumulate_grad_batches
        if trainer.global_step > self.steps:
            self.monitor.record(trainer.global_step - 1, self.loss, target=batch[1])
            self.steps, self.loss = trainer.global_step, 0.0

    def on_train_end(self, *_: object) -> None:
        """Remove every hook."""
        self.hooks.close()

    on_exception = on_train_end


class Digits(lightning.LightningModule):
    """A small convolutional network for images of 8 x 8 pixels."""

    def __init__(self, fault: str | None = None) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
        initialize(self, "zero" if fault == "zero" else "he")
        self.second.requires_grad_(fault != "frozen")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n x 1 x 8 x 8) to logits (n x 10)."""
        return self.head(self.second(self.first(x)))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of a batch. It calls `self`, and not a layer of it, so that the monitor sees the output."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what trains all parameters."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def train(model: lightning.LightningModule, callback: lightning.Callback | None = None, **options: object) -> None:
    """Train for four epochs of 29 steps."""
    pixels, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(pixels).float().view(-1, 1, 8, 8) / 16, torch.tensor(labels))
    loader = DataLoader(data, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    options = {"max_epochs": 4, "accelerator": "cpu", **off, **options}
    lightning.Trainer(callbacks=callback, **options).fit(model, loader)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=["zero", "frozen"], help="all weights start at zero, or a layer is frozen")
    parser.add_argument("--out", help="an HTML file for the picture of the run")
    given = parser.parse_args()
    torch.set_num_threads(1)  # more would only wait for one another
    callback = MonitorCallback()
    train(Digits(given.fault), callback)
    print(callback.monitor.diagnosis())
    if given.out:
        callback.monitor.summary().plot().write_html(given.out)
