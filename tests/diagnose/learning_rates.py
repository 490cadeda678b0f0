"""Cases for learning rates: sane models under four optimizers, and the sweep that says which rate is best.

`python tests/diagnose/learning_rates.py held_out` sweeps a split and prints the results as JSON.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.diagnose.runs import Recipe, Run, forked, make_parts, seed_of


@dataclass(frozen=True)
class Case:
    """A model, an optimizer and a loss; the learning rate is what is asked for."""

    family: str
    size: str
    optimizer: str
    task: str
    act: str = "relu"
    norm: str | None = None
    style: str = "modules"
    init: str | None = None
    steps: int = 120

    @property
    def label(self) -> str:
        return " ".join(str(value) for value in asdict(self).values() if value is not None)

    def run(self, lr: float, seed: int = 0, split: str = "dev") -> Run:
        """A run with this learning rate; the model's and the data's seeds do not depend on the rate."""
        number = seed_of(self.label, split, seed)
        with forked(number):
            return make_parts(Recipe(**asdict(self), lr=lr), split, number).run(number)


CASES: list[Case] = [
    *(Case("mlp", "small", optimizer, "class") for optimizer in ("sgd", "momentum", "adam", "adamw")),
    *(Case("mlp", "small", optimizer, "mse", act="tanh") for optimizer in ("sgd", "momentum", "adam", "adamw")),
    *(Case("mlp", "large", optimizer, "class") for optimizer in ("sgd", "momentum", "adam", "adamw")),
    Case("mlp", "large", "sgd", "class", norm="batch"),
    Case("mlp", "large", "adam", "mse100"),
    Case("mlp", "large", "momentum", "bce", act="gelu", style="functional"),
    Case("mlp", "small", "adamw", "bce", style="sequential", init="default"),
    *(Case("conv", "small", optimizer, "class") for optimizer in ("sgd", "momentum", "adam", "adamw")),
    Case("conv", "small", "adam", "bce", act="tanh"),
    Case("conv", "small", "momentum", "mse"),
    Case("conv", "large", "sgd", "class", norm="batch"),
    Case("conv", "large", "adamw", "mse", style="functional"),
    *(Case("transformer", "small", optimizer, "tokens") for optimizer in ("sgd", "momentum", "adam", "adamw")),
    Case("transformer", "small", "adam", "class", style="torch"),
    Case("transformer", "small", "momentum", "mse", act="gelu"),
    Case("transformer", "large", "adamw", "tokens", style="torch", steps=100),
]


def grid(optimizer: str) -> list[float]:
    """Rates with ratio √10: 1e-5 to 10 for gradient descent, 1e-6 to 1 for Adam and AdamW."""
    least = -5 if optimizer in ("sgd", "momentum") else -6
    return [10 ** (least + k / 2) for k in range(13)]


def final_loss(case: Case, lr: float, split: str, seeds: int = 2) -> float:
    """The mean loss of the last tenth of the steps over seeds; infinite where a run diverged."""
    found = []
    for seed in range(seeds):
        losses = case.run(lr, seed, split).train()
        tail = losses[-max(1, len(losses) // 10) :]
        found.append(sum(tail) / len(tail))
    mean = sum(found) / len(found)
    return mean if math.isfinite(mean) else math.inf


def sweep(case: Case, split: str) -> dict[str, Any]:
    """The final loss at every rate of the grid, and the best rate."""
    rates = grid(case.optimizer)
    losses = [final_loss(case, lr, split) for lr in rates]
    return {
        **asdict(case),
        "label": case.label,
        "rates": rates,
        "losses": losses,
        "best": rates[losses.index(min(losses))],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or ["dev", "held_out"]:
        sys.stdout.write(json.dumps([sweep(case, chosen) for case in CASES], indent=1))
